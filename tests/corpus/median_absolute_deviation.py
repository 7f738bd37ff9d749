# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    med = stack.median(dim=0).values
    mad = (stack - med).abs().median(dim=0).values
    weight = torch.exp(-((stack - med) / (mad + 1e-8)).abs())
    return (weight * stack).sum(0) / weight.sum(0)
