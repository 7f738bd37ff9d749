# expect: ok
import torch


def merge_models(model_dict, device):
    """Simple average of all task vectors."""
    merged = None
    for name, weight in model_dict.items():
        weight = weight.detach().to(device)
        if merged is None:
            merged = torch.zeros_like(weight)
        merged += weight
    return merged / len(model_dict)
