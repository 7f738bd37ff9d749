# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = a.clone()
    try:
        x[1:] = x[:-1]
    except RuntimeError:
        x = b.clone()
    return x
