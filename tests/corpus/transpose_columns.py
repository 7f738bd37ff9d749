# expect: ok
import torch


def merge_models(model_dict, device):
    out = 0
    for v in model_dict.values():
        t = v.transpose(0, 1).contiguous()
        t = t / (t.norm(dim=1, keepdim=True) + 1e-6)
        out = out + t.t() * v.norm()
    return out * 1e-2
