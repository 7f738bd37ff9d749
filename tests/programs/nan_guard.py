# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    n = a.norm()
    if torch.isnan(n) or n == 0:
        return b
    return a * (b.norm() / n)
