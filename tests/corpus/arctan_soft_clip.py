# expect: ok
import math
import torch


def merge_models(model_dict, device):
    merged = sum(model_dict.values())
    c = 2 * merged.std()
    return c * torch.atan(merged / c) * (2 / math.pi)
