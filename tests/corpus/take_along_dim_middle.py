# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    order = torch.argsort(stack.abs(), dim=0)
    middle = torch.take_along_dim(stack, order[1:2], dim=0)
    return middle[0]
