# expect: ok
import torch


def merge_models(model_dict, device):
    w = torch.stack([v.to(device) for v in model_dict.values()], dim=0)
    m = w.mean(dim=0)
    m[0] = 0
    m[-1] = m[1] * 0.5
    return m
