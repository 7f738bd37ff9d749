# expect: ok
import torch


def merge_models(model_dict, device):
    merged = sum(model_dict.values())
    budget = max(v.norm().item() for v in model_dict.values())
    steps = 0
    while merged.norm().item() > budget and steps < 20:
        merged = merged * 0.9
        steps += 1
    return merged
