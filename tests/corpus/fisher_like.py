# expect: ok
import torch


def merge_models(model_dict, device):
    num, den = 0.0, 0.0
    for v in model_dict.values():
        v = v.to(device)
        fisher = v.pow(2) + 1e-10
        num = num + fisher * v
        den = den + fisher
    return num / den
