# expect: ok
import torch


def merge_models(model_dict, device):
    nuc = [torch.linalg.matrix_norm(v, ord="nuc") for v in model_dict.values()]
    total = sum(nuc)
    return sum(n / total * v for n, v in zip(nuc, model_dict.values()))
