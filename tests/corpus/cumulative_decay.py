# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    decay = torch.tensor([0.5, 0.25, 0.125]).view(-1, *([1] * (stack.dim() - 1)))
    return torch.cumsum(stack * decay, dim=0)[-1]
