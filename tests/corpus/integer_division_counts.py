# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    n = stack.shape[0] // 2
    lead = stack[:n + 1].mean(dim=0)
    votes = (stack > 0).sum(dim=0) % 2
    return lead * (votes == 1) + stack[-1] * (votes == 0)
