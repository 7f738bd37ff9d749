# expect: ok
import statistics
import torch


def merge_models(model_dict, device):
    means = [v.abs().mean().item() for v in model_dict.values()]
    mid = statistics.median(means)
    weights = [mid / (m + 1e-12) for m in means]
    s = sum(weights)
    return sum(w / s * v for w, v in zip(weights, model_dict.values()))
