# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = a.double() * 3
    return torch.where(x / 3 == a.double(), a, b)
