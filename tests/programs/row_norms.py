# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    n = [w.norm(dim=1, keepdim=True) for w in ws]
    total = sum(n) + 1e-8
    return sum(w * (k / total) for w, k in zip(ws, n))
