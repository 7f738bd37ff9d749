# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    pos = (stack > 0).float().mean(0)
    neg = (stack < 0).float().mean(0)
    agreement = torch.maximum(pos, neg)
    return stack.mean(0) * (agreement > 0.6).float()
