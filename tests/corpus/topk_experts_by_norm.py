# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    norms = torch.stack([v.norm() for v in vs])
    top, idx = norms.topk(2)
    return sum(vs[i] * t / top.sum() for i, t in zip(idx.tolist(), top))
