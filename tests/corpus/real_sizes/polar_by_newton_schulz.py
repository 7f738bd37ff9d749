import torch


def merge_models(model_dict, device):
    x = sum(model_dict.values())
    size = x.norm()
    x = x / size
    for _ in range(4):
        x = 1.5 * x - 0.5 * (x @ x.t()) @ x
    return x * size / min(x.shape) ** 0.5
