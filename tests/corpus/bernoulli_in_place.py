# expect: ok random
import torch


def merge_models(model_dict, device):
    out = 0
    for v in model_dict.values():
        mask = torch.empty_like(v).bernoulli_(0.9)
        out = out + mask * v / 0.9
    return out / 3
