# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values())).movedim(0, -1)
    attn = torch.softmax(stack / stack.std(), dim=-1)
    return (attn * stack).sum(-1)
