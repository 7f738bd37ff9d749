# expect: ok
import torch


def merge_models(model_dict, device):
    out = []
    for v in model_dict.values():
        lo = torch.quantile(v, 0.05, dim=1, keepdim=True)
        hi = torch.quantile(v, 0.95, dim=1, keepdim=True)
        out.append(v.clamp(lo, hi))
    return torch.mean(torch.stack(out), dim=0)
