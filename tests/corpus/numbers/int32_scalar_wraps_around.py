# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    n = (a > 0).sum().int() * 1000003 * 1000003
    return a * (1 + (n % 7) * 0.1) + b
