# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    center = sum(vs) / len(vs)
    dist = torch.stack([torch.dist(v, center) for v in vs])
    w = torch.exp(-dist / dist.mean())
    w /= w.sum()
    return sum(wi * v for wi, v in zip(w, vs))
