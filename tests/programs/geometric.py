# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    return torch.sign(a) * (a.abs() * b.abs() + 1e-12).sqrt()
