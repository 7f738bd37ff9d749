# expect: ok
import numpy as np
import torch


def merge_models(model_dict, device):
    norms = np.array([float(torch.linalg.norm(v)) for v in model_dict.values()])
    inv = 1.0 / (norms + 1e-8)
    weights = inv / inv.sum()
    merged = sum(float(w) * v for w, v in zip(weights, model_dict.values()))
    return merged.to(device)
