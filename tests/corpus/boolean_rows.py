# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = [v.clone() for v in model_dict.values()]
    strong = a.norm(dim=1) > b.norm(dim=1)
    merged = b.clone()
    merged[strong] = a[strong]
    merged[~strong] = merged[~strong] * 0.5 + 0.5 * c[~strong]
    return merged
