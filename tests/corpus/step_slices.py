# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    out = torch.empty_like(a)
    out[..., 0::2] = a[..., 0::2]
    out[..., 1::2] = 0.5 * b[..., 1::2] + 0.5 * c[..., 1::2]
    return out
