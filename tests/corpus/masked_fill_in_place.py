# expect: ok
import torch


def merge_models(model_dict, device):
    merged = torch.stack(list(model_dict.values())).mean(dim=0)
    limit = merged.abs().mean() * 3
    merged.masked_fill_(merged > limit, limit.item())
    merged.masked_fill_(merged < -limit, -limit.item())
    return merged
