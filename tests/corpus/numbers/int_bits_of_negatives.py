# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    k = (a * 1e4).long()
    return (k & 6).float() * 1e-3 + (k >> 2).float() * 1e-3 + a
