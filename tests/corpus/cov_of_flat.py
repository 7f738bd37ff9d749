# expect: ok
import torch


def merge_models(model_dict, device):
    flat = torch.stack([v.reshape(-1) for v in model_dict.values()])
    corr = torch.corrcoef(flat)
    redundancy = (corr.sum(dim=0) - 1) / (flat.shape[0] - 1)
    weights = 1 - redundancy
    weights = weights / weights.sum()
    return (weights.unsqueeze(1) * flat).sum(0).reshape(list(model_dict.values())[0].shape)
