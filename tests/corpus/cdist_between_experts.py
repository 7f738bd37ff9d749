# expect: ok
import torch


def merge_models(model_dict, device):
    flat = torch.stack([v.flatten() for v in model_dict.values()])
    d = torch.cdist(flat, flat)
    closeness = 1 / (1 + d.sum(1))
    w = closeness / closeness.sum()
    return (w.view(-1, 1) * flat).sum(0).view_as(next(iter(model_dict.values())))
