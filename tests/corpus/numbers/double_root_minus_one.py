# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = a.double()
    return (torch.sqrt(1 + x * x) - 1).float() * 1e4 + b * 0.01
