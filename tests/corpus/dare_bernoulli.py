# expect: ok random
import torch


def merge_models(model_dict, device):
    """Drop And REscale, then add."""
    p = 0.1
    merged = 0
    for v in model_dict.values():
        v = v.to(device)
        mask = torch.bernoulli(torch.full_like(v, 1 - p))
        merged = merged + v * mask / (1 - p)
    return merged * 0.4
