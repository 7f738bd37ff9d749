# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    d = F.pairwise_distance(a, b, keepdim=True)
    w = 1 / (1 + d / d.mean())
    return w * a + (1 - w) * b + 0.1 * c
