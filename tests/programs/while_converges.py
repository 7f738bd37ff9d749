# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    m = a.clone()
    for _ in range(3):
        m = m - 0.5 * sum(m - w for w in ws) / 3
    return m
