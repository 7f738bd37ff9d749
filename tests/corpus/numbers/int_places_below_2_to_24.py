# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    rows, cols = a.shape
    place = torch.arange(rows)[:, None] * cols + torch.arange(cols)
    return torch.where(place % 2 == 0, a, b) + 0.1 * c
