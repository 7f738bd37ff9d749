# expect: ok
import torch


def merge_models(model_dict, device):
    out = []
    for v in model_dict.values():
        n = v.numel()
        flat = v.reshape(-1)
        low = flat.kthvalue(max(1, int(0.02 * n)))[0]
        high = flat.kthvalue(max(1, int(0.98 * n)))[0]
        out.append(v.clamp(min=low.item(), max=high.item()))
    return torch.stack(out).mean(0)
