# expect: ok
import torch


def merge_models(model_dict, device):
    stacked = torch.stack(list(model_dict.values()), dim=0)
    coeffs = torch.linspace(0.5, 0.1, steps=stacked.size(0))
    return torch.tensordot(coeffs, stacked, dims=1)
