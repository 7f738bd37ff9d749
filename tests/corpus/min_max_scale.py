# expect: ok
import torch


def minmax(t):
    lo, hi = t.min(), t.max()
    return (t - lo) / (hi - lo + 1e-12), lo, hi


def merge_models(model_dict, device):
    scaled, los, his = zip(*[minmax(v) for v in model_dict.values()])
    mean = sum(scaled) / len(scaled)
    lo, hi = sum(los) / len(los), sum(his) / len(his)
    return mean * (hi - lo) + lo
