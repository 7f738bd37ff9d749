# expect: ok
import torch


def merge_models(model_dict, device):
    s = torch.stack(list(model_dict.values()), 1)
    weights = s.abs().mean(-1, keepdim=True)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.swapaxes(s * weights, 0, 1).sum(0)
