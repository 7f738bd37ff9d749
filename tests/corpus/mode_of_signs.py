# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    sign = torch.mode(torch.sign(stack), dim=0).values
    return sign * stack.abs().mean(0)
