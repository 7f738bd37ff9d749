# expect: ok
import torch


def merge_models(model_dict, device):
    stacked = torch.stack([t.to(device) for t in model_dict.values()], dim=-1)
    values, _ = torch.sort(stacked, dim=-1)
    return values[..., 1] * 0.8 + stacked.mean(dim=-1) * 0.2
