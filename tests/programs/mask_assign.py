# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    m = a.clone()
    m[b < 0] = 0.0
    m[c > 0] *= 0.5
    return m
