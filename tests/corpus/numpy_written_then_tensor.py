# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    norms = torch.stack([a.norm(), b.norm(), c.norm()])
    array = norms.numpy()
    array *= 2
    norms += 1
    return a * float(array[0]) + b * norms[1]
