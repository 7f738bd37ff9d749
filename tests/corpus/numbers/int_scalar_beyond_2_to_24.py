# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    n = (a > 0).sum() * 1000003 + 1
    return a * (1 + (n % 7) * 0.1) + b * (n % 2)
