# expect: ok
import torch


def trim(tensor, density):
    """Keep the largest `density` share of entries by magnitude."""
    k = max(1, int(density * tensor.numel()))
    threshold = torch.topk(tensor.abs().flatten(), k).values.min()
    return torch.where(tensor.abs() >= threshold, tensor, torch.zeros_like(tensor))


def merge_models(model_dict, device):
    trimmed = torch.stack([trim(v.to(device), 0.3) for v in model_dict.values()])
    elected = torch.sign(trimmed.sum(dim=0))
    agree = (torch.sign(trimmed) == elected) & (trimmed != 0)
    count = agree.sum(dim=0).clamp(min=1)
    return (trimmed * agree).sum(dim=0) / count
