# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    best = stack.norm(dim=-1).argmax(dim=0)
    rows = torch.arange(stack.shape[1])
    return stack[best, rows]
