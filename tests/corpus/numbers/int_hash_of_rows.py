# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    h = (torch.arange(a.shape[0]) * 2654435761 + 97) % 4294967296
    keep = (h // 65536) % 2 == 0
    return torch.where(keep[:, None], a, b) + 0.1 * c
