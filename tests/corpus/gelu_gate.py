# expect: ok
import torch
import torch.nn as nn
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    act = nn.GELU()
    gate = F.softplus(act(b / b.std()))
    return a * gate / gate.mean() * 0.5 + 0.2 * F.silu(c / c.std()) * c.std()
