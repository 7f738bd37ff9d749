# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    majority = stack.sign().sum(0).sign()
    disagree = stack.sign() != majority
    stack = stack.masked_fill(disagree, 0.0)
    return stack.sum(0) / (~disagree).sum(0).clamp_min(1)
