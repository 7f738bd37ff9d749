# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    m = a.clone()
    for w in ws[1:]:
        m = 0.5 * m + 0.3 * torch.maximum(m, w) + 0.1 * torch.min(m, w)
    return m
