# expect: ok
import torch


def merge_models(model_dict, device):
    out = 0
    for v in model_dict.values():
        mask = v.abs() > v.abs().mean()
        scale = v[mask].abs().mean() / v.abs().max()
        out = out + scale * v
    return out
