# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = a.double()
    return ((x + 1e8) - 1e8).float() + b
