# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    m = a.clone()
    m[::2] *= 0.5
    m[:, 1:] += 0.25 * b[:, 1:]
    m[0] = 0.1 * c[0]
    return m
