# expect: ok
import torch


def merge_models(model_dict, device):
    total = 0
    for v in model_dict.values():
        total = total + v.sign() * torch.log1p(v.abs() * 1000)
    mean = total / len(model_dict)
    return mean.sign() * torch.expm1(mean.abs()) / 1000
