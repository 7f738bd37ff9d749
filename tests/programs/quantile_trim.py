# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    out = torch.zeros_like(a)
    for w in ws:
        bar = w.abs().flatten().kthvalue(int(0.8 * w.numel())).values
        out += torch.where(w.abs() >= bar, w, torch.zeros_like(w)) * 0.5
    return out
