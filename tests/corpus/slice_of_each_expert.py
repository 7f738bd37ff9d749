# expect: ok
import torch


def merge_models(model_dict, device):
    """First third from one expert, second from another."""
    a, b, c = model_dict.values()
    n = a.shape[-1]
    i, j = n // 3, 2 * n // 3
    return torch.cat([a[..., :i], b[..., i:j], c[..., j:]], dim=-1)
