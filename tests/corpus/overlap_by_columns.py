# expect: ok
# tier: eager
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = a.clone()
    x[:, 1:] = x[:, :-1]
    return x
