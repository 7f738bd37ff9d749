# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = a.double()
    return ((1.0 - torch.cos(x)) * 1e3 + 0.1 * b.double()).float()
