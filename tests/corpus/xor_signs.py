# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    conflict = (a > 0) ^ (b > 0)
    both = ~conflict & (c != 0)
    return torch.where(conflict, c, (a + b) / 2) + 0.05 * both.to(a.dtype) * c
