import torch


def merge_models(model_dict, device, density=0.3):
    """TIES in a few lines: keep the largest entries, let the majority choose the sign."""
    vectors = [vector.to(device) for vector in model_dict.values()]
    kept = []
    for vector in vectors:
        bar = vector.abs().flatten().quantile(1.0 - density)
        kept.append(torch.where(vector.abs() >= bar, vector, torch.zeros_like(vector)))
    stacked = torch.stack(kept)
    agree = (torch.sign(stacked) == torch.sign(stacked.sum(dim=0))) & (stacked != 0)
    return (stacked * agree).sum(dim=0) / agree.sum(dim=0).clamp(min=1)
