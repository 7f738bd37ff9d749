# expect: ok
import torch


def merge_models(model_dict, device):
    """Dominant direction of the mean by power iteration."""
    mean = sum(model_dict.values()) / len(model_dict)
    v = torch.ones(mean.shape[1]) / mean.shape[1] ** 0.5
    for _ in range(5):
        u = mean @ v
        u = u / (u.norm() + 1e-12)
        v = mean.t() @ u
        sigma = v.norm()
        v = v / (sigma + 1e-12)
    return mean + 0.1 * sigma * u.unsqueeze(1) * v.unsqueeze(0)
