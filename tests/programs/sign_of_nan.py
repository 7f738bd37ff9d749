# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    return b + torch.sign(a * 0 / torch.zeros_like(a)) * c
