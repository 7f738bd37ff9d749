# expect: ok
import torch


def combine(x, y):
    nx, ny = x.norm(), y.norm()
    return (nx * x + ny * y) / (nx + ny)


def tournament(vectors):
    if len(vectors) == 1:
        return vectors[0]
    half = len(vectors) // 2
    return combine(tournament(vectors[:half]), tournament(vectors[half:]))


def merge_models(model_dict, device):
    return tournament([v.to(device) for v in model_dict.values()])
