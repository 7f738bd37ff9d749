# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    k = (a * 1e4).int()
    k <<= 2
    k >>= 1
    k &= 1023
    return k.float() * 1e-3 + b
