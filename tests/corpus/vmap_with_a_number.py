# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    cosine = torch.vmap(lambda x, y: torch.dot(x, y) / (x.norm() * y.norm() + 1e-8))
    return a * cosine(a, b)[:, None] + b
