# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    n1 = torch.linalg.matrix_norm(a, ord=1)
    ni = torch.linalg.matrix_norm(b, ord=float("inf"))
    nf = torch.linalg.matrix_norm(c)
    w = torch.stack([n1, ni, nf])
    w = w / w.sum()
    return w[0] * a + w[1] * b + w[2] * c
