# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = 1.0 + a.double() * 1e-6
    return b * float((x - 1.0).abs().mean() * 1e9)
