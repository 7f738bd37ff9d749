# expect: ok
import numpy as np
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    sim = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            sim[i, j] = (vs[i] * vs[j]).sum().item()
    vals, vecs = np.linalg.eigh(sim)
    w = np.abs(vecs[:, -1])
    w = w / w.sum()
    return sum(float(w[i]) * vs[i] for i in range(3))
