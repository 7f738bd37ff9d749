# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    m = a
    for i in range(1500):
        m = 0.999 * m + 0.001 * b
    return torch.sign(m) * c.abs()
