# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    m = a.clone()
    top = m[: m.shape[0] // 2]
    top *= 0.5
    top += 0.5 * b[: m.shape[0] // 2]
    flat = m.view(-1)
    flat[:10] = 0.0
    return m + 0.1 * c
