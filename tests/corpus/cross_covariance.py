# expect: ok
import torch


def merge_models(model_dict, device):
    flat = torch.stack([v.reshape(-1) for v in model_dict.values()])
    cov = torch.cov(flat)
    inv = torch.linalg.inv(cov + 1e-3 * torch.trace(cov) * torch.eye(3))
    w = inv.sum(dim=1) / inv.sum()
    return (w @ flat).reshape(list(model_dict.values())[0].shape)
