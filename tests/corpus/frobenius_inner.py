# expect: ok
import torch


def frobenius(x, y):
    return torch.trace(x.t() @ y) if x.dim() == 2 else torch.dot(x, y)


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    alpha = frobenius(a, b) / frobenius(b, b)
    return 0.5 * a + 0.5 * alpha * b + 0.2 * c
