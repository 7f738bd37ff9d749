# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = [v.clone() for v in model_dict.values()]
    a[:, 0] *= 2
    a[:, 1:5] += b[:, 1:5]
    a[2:4, :] = c[2:4, :]
    return 0.5 * a + 0.25 * b
