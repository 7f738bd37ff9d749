# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    out = a.clone()
    n = a.size(0)
    tail = out.narrow(0, n - n // 3, n // 3)
    tail.copy_(0.5 * (b.narrow(0, n - n // 3, n // 3) + c.narrow(0, n - n // 3, n // 3)))
    return out
