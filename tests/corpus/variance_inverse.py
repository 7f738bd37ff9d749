# expect: ok
import torch


def merge_models(model_dict, device):
    """Inverse-variance weighting."""
    vs = list(model_dict.values())
    inv = torch.stack([1.0 / (v.var() + 1e-12) for v in vs])
    w = inv / inv.sum()
    merged = torch.zeros_like(vs[0])
    for wi, v in zip(w, vs):
        merged += wi * v
    return merged
