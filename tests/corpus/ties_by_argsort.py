# expect: ok
import torch


def top_mask(x, fraction):
    n = x.numel()
    keep = int(n * fraction)
    order = torch.argsort(x.abs().flatten(), descending=True)
    mask = torch.zeros(n, device=x.device)
    mask[order[:keep]] = 1.0
    return mask.view_as(x)


def merge_models(model_dict, device):
    vectors = [v.to(device) for v in model_dict.values()]
    sparse = [v * top_mask(v, 0.25) for v in vectors]
    return sum(sparse) / len(sparse)
