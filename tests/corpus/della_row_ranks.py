# expect: ok random
import torch


def merge_models(model_dict, device):
    density, eps = 0.9, 0.05
    merged = None
    for delta in model_dict.values():
        ranks = delta.abs().argsort(dim=-1).argsort(dim=-1).float()
        probs = ranks / max(1, delta.shape[-1] - 1) * 2 * eps + (density - eps)
        mask = torch.bernoulli(probs.clamp(0, 1))
        kept = delta * mask
        kept = kept * (delta.abs().sum() / kept.abs().sum().clamp_min(1e-12))
        merged = kept if merged is None else merged + kept
    return merged / len(model_dict)
