# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    level = (a * 1e4).long()
    again = (level.double() * 0.3 * 100).long()
    return a + (again % 7).float() * 1e-3 + b * (level.double() * 0.1 < 0.3)
