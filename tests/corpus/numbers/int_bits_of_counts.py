# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    count = (a > 0).sum()
    return ((count >> 3) & 5) * b + (~count).float() * c + (1 << (int(count) % 3)) * a
