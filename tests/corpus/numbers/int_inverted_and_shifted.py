# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    k = (a * 1e4).int()
    return (~k).float() * 1e-3 + (k << 3).float() * 1e-3
