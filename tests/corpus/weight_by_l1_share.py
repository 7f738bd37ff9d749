# expect: ok
import torch


def merge_models(model_dict, device):
    l1 = {k: torch.norm(v, p=1).item() for k, v in model_dict.items()}
    total = sum(l1.values())
    return sum(model_dict[k] * (l1[k] / total) for k in model_dict)
