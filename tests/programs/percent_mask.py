# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    keep = torch.zeros_like(a)
    keep.masked_fill_(a.abs() > b.abs(), 1.0)
    return keep * a + (1 - keep) * b
