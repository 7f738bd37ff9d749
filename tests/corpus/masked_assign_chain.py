# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = [v.clone().to(device) for v in model_dict.values()]
    merged = (a + b + c) / 3
    strong = a.abs() > b.abs()
    merged[strong] = a[strong]
    merged[~strong] = 0.5 * (merged[~strong] + b[~strong])
    merged[c.abs() > merged.abs()] *= 0.8
    return merged
