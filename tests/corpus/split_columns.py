# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    n = a.shape[1]
    sizes = [n // 2, n - n // 2]
    a1, a2 = torch.split(a, sizes, dim=1)
    b1, b2 = torch.split(b, sizes, dim=1)
    c1, c2 = torch.split(c, sizes, dim=1)
    left = 0.5 * a1 + 0.5 * b1
    right = 0.2 * b2 + 0.8 * c2
    return torch.cat((left, right), 1)
