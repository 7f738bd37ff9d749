# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    steps = torch.diff(stack, dim=0)
    return stack[0] + 0.5 * steps.sum(dim=0) * torch.sigmoid(steps.prod(dim=0) * 1e6)
