# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    n = torch.stack([v.double().norm() for v in (a, b, c)])
    w = ((n + 1e8) - 1e8) / n.sum()
    return sum(wi * v for wi, v in zip(w.float(), (a, b, c)))
