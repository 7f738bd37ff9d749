# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    m = a.clone()
    for w in ws[1:]:
        m = 0.5 * m + 0.5 * w.mean(dim=0, keepdim=True)
    return m
