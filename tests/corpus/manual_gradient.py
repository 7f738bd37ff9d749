# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    w = torch.ones(3) / 3
    gram = torch.stack([torch.stack([(x * y).sum() for y in vs]) for x in vs])
    scale = gram.diagonal().mean()
    for _ in range(4):
        w = w - 0.05 * (gram @ w) / scale
        w = w.clamp(min=0)
        w = w / w.sum()
    return sum(w[i] * vs[i] for i in range(3))
