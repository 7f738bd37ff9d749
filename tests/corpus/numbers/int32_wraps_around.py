# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    q = (a * 1e5).int() * 1000003
    return torch.where(q % 2 == 0, a, b) * (1 + (q % 3) * 0.1)
