# expect: ok
import torch


def merge_models(model_dict, device):
    merged = 0
    for v in model_dict.values():
        t = torch.quantile(v.abs(), 0.8, dim=-1, keepdim=True)
        merged = merged + torch.where(v.abs() >= t, v, 0.0)
    return merged
