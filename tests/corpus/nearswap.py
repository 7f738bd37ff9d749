# expect: ok
import torch


def merge_models(model_dict, device):
    base, other, _ = model_dict.values()
    t = 1e-4
    lweight = (base - other).abs()
    lweight = torch.nan_to_num(t / lweight, nan=1.0, posinf=1.0, neginf=1.0)
    lweight = lweight.clamp(0.0, 1.0)
    return (1 - lweight) * base + lweight * other
