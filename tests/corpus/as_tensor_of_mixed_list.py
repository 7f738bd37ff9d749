# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    weights = torch.as_tensor([a.std(), 2.0])
    return a * weights[0] + b * weights[1]
