# expect: ok
import torch


def sparsify(v, ratio):
    flat = v.flatten()
    k = max(1, int(flat.numel() * ratio))
    _, idx = torch.topk(flat.abs(), k)
    out = torch.zeros_like(flat)
    out[idx] = flat[idx]
    return out.view_as(v)


def merge_models(model_dict, device):
    return sum(sparsify(v, 0.2) for v in model_dict.values())
