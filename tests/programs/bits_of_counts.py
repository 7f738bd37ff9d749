# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    n = (a > 0).long() + (b > 0).long()
    return (n & 2).float() * c + a
