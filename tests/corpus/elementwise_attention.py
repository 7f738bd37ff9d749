# expect: ok
import torch


def merge_models(model_dict, device):
    q, k, v = model_dict.values()
    score = torch.sigmoid((q * k) / (q.norm() * k.norm() + 1e-12) * q.numel() ** 0.5)
    return score * v + (1 - score) * (q + k) / 2
