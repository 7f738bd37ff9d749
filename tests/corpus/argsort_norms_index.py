# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    norms = stack.flatten(1).norm(dim=1)
    order = torch.argsort(norms, descending=True)
    coef = torch.tensor([0.5, 0.3, 0.2])
    return (stack[order] * coef.view(-1, 1, 1)).sum(0) if stack.dim() == 3 else (
        stack[order] * coef.view(-1, 1)
    ).sum(0)
