# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    temperature = 0.5
    stacked = torch.stack([v.to(device) for v in model_dict.values()], dim=0)
    scores = stacked.abs() / (stacked.abs().mean() + 1e-12)
    weights = F.softmax(scores / temperature, dim=0)
    return (weights * stacked).sum(dim=0)
