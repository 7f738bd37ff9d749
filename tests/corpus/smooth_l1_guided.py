# expect: ok
import torch
from torch.nn.functional import smooth_l1_loss, l1_loss


def merge_models(model_dict, device):
    first, *rest = model_dict.values()
    merged = first
    for r in rest:
        step = smooth_l1_loss(merged, r, beta=1e-3) / (l1_loss(merged, r) + 1e-9)
        merged = merged + torch.clamp(step, 0, 0.5) * (r - merged)
    return merged
