# expect: ok
import torch


def merge_models(model_dict, device):
    ranked = sorted(model_dict.items(), key=lambda kv: kv[1].abs().mean().item(), reverse=True)
    decay = 0.6
    merged = torch.zeros_like(ranked[0][1])
    for rank, (name, vec) in enumerate(ranked):
        merged.add_(vec, alpha=decay ** (rank + 1))
    return merged
