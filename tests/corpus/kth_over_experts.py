# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    second = torch.kthvalue(stack, 2, dim=0)
    return 0.7 * second.values + 0.3 * stack.mean(0)
