# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    import numpy as np

    n = np.array([w.norm().item() for w in ws])
    n = n / n.sum()
    return sum(float(k) * w for k, w in zip(n, ws))
