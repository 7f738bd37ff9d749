# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    d = torch.einsum("ij,ij->", a, b) / (a.norm() * b.norm())
    return d * a + (1 - d) * c
