# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    i = stack.abs().argmin(dim=0)
    out = torch.zeros_like(stack[0])
    for k in range(stack.shape[0]):
        out = out + (i == k) * stack[k]
    return out
