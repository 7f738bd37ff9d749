# expect: ok
import torch


def merge_models(model_dict, device):
    s = torch.stack(list(model_dict.values()))
    w = s.abs() + 1e-9
    for _ in range(3):
        w = w / w.sum(dim=0, keepdim=True)
        w = w / w.mean(dim=-1, keepdim=True)
    return (w * s).sum(0) / w.sum(0)
