# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    return torch.sign(a) * torch.log1p(a.abs() * 1000) * 1e-3 + b.pow(2) * 10
