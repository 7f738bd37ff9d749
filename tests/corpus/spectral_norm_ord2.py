# expect: ok
import torch


def merge_models(model_dict, device):
    out = 0
    for v in model_dict.values():
        out = out + v / torch.linalg.norm(v, ord=2)
    return out * 1e-3
