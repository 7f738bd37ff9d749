# expect: ok
import torch


def merge_models(model_dict, device):
    k_ratio = 0.3
    merged = 0
    for t in model_dict.values():
        k = max(1, int(t.shape[-1] * k_ratio))
        vals, _ = torch.topk(t.abs(), k, dim=-1)
        cutoff = vals[..., -1:]
        merged = merged + t * (t.abs() >= cutoff)
    return merged
