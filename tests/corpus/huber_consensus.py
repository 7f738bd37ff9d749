# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack([v.to(device) for v in model_dict.values()])
    center = stack.mean(0)
    for _ in range(3):
        resid = (stack - center).abs()
        delta = resid.mean()
        w = torch.where(resid <= delta, torch.ones_like(resid), delta / resid.clamp_min(1e-12))
        center = (w * stack).sum(0) / w.sum(0)
    return center
