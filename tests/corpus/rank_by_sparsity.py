# expect: ok
import torch


def sparsity(t, tol=1e-4):
    return (t.abs() < tol).float().mean().item()


def merge_models(model_dict, device):
    order = sorted(model_dict, key=lambda k: sparsity(model_dict[k]))
    merged = torch.zeros_like(model_dict[order[0]])
    for depth, k in enumerate(order, 1):
        merged = merged + model_dict[k] / (2 ** depth)
    return merged
