# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    avg = sum(vs) / len(vs)
    target = sum(v.norm(dim=-1, keepdim=True) for v in vs) / len(vs)
    current = avg.norm(dim=-1, keepdim=True)
    return avg * (target / torch.clamp(current, min=1e-8))
