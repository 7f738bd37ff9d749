# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = a.double().abs() ** 10
    return (x / x.sum()).float() * a.norm()
