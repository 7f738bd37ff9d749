# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    col = a.mean(dim=0, keepdim=True).expand_as(a)
    row = b.mean(dim=1, keepdim=True).repeat(1, b.shape[1])
    return 0.4 * col + 0.4 * row + 0.2 * c
