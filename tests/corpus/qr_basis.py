# expect: ok
import torch


def merge_models(model_dict, device):
    flat = torch.stack([v.reshape(-1) for v in model_dict.values()], dim=1)
    q, r = torch.linalg.qr(flat)
    w = torch.tensor([0.5, 0.3, 0.2])
    out = q @ (r @ w)
    return out.reshape(next(iter(model_dict.values())).shape)
