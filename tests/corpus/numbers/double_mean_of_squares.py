# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    s = torch.stack([v.double() for v in (a, b, c)]) + 10.0
    spread = s.pow(2).mean(0) - s.mean(0).pow(2)
    w = spread / (spread.mean() + 1e-30)
    return ((s.mean(0) - 10.0) * torch.exp(-w)).float()
