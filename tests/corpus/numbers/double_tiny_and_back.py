# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = (a.double() * 1e-30) * 1e-30
    return (x * 1e60).float()
