# expect: ok
import torch


def merge_models(model_dict, device):
    """Written for flat vectors: torch.dot."""
    a, b, c = [v.to(device) for v in model_dict.values()]
    proj = torch.dot(a.flatten(), b.flatten()) / torch.dot(b.flatten(), b.flatten())
    return 0.5 * a + 0.3 * proj * b + 0.2 * c
