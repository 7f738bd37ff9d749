# expect: ok
import torch


def merge_models(model_dict, device):
    entropies = []
    for v in model_dict.values():
        p = v.abs().flatten()
        p = p / p.sum()
        entropies.append(-(p * torch.log(p + 1e-12)).sum())
    e = torch.stack(entropies)
    w = e / e.sum()
    return torch.einsum("i,i...->...", w, torch.stack(list(model_dict.values())))
