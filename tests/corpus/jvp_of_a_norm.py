# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    _, slope = torch.func.jvp(lambda x: (x * x).sum(), (a,), (b,))
    return c * slope + a
