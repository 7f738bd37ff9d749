# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    votes = torch.stack([a, b, c]).sign().long().sum(0)
    return a * (votes % 2) + b * (votes.abs() == 3)
