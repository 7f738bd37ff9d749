# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = b.double()
    return (torch.log(1 + x * x) * 1e3).float() + 0.1 * a
