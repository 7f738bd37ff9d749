# expect: ok
import torch


def merge_models(model_dict, device):
    """Drop the outliers and the small ones, keep the middle."""
    density, gamma = 0.7, 0.05
    result = torch.zeros_like(next(iter(model_dict.values())))
    for tensor in model_dict.values():
        magnitude = tensor.abs()
        flat = magnitude.flatten()
        hi = torch.quantile(flat, 1 - gamma)
        lo = torch.quantile(flat, 1 - gamma - density)
        mask = (magnitude <= hi) & (magnitude >= lo)
        result += tensor * mask
    return result / 3
