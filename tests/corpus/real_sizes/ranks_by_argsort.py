import torch


def merge_models(model_dict, device):
    mean = sum(model_dict.values()) / len(model_dict)
    flat = mean.flatten()
    ranks = torch.empty_like(flat)
    order = flat.abs().argsort()
    ranks[order] = torch.linspace(0, 1, flat.numel())
    return mean * ranks.view_as(mean)
