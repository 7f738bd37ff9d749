# expect: ok
import math
import torch


def merge_models(model_dict, device):
    n = len(model_dict)
    out = 0
    for i, v in enumerate(model_dict.values()):
        phase = 2 * math.pi * i / n
        out = out + (0.5 + 0.4 * math.cos(phase)) * v
    return out / n
