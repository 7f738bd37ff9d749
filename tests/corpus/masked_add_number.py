# expect: ok
import torch


def merge_models(model_dict, device):
    merged = torch.stack(list(model_dict.values())).mean(0)
    small = merged.abs() < merged.abs().mean() * 0.1
    merged[small] = 0
    merged[merged > 0] += 1e-5
    return merged
