# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    return torch.logical_and(a, b > 0).float() * a + torch.logical_or(a, b).float() * c
