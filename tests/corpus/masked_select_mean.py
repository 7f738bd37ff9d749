# expect: ok
import torch


def merge_models(model_dict, device):
    out = 0
    for v in model_dict.values():
        big = torch.masked_select(v, v.abs() > v.abs().median())
        out = out + v * (big.abs().mean() / v.abs().mean()) * 0.3
    return out
