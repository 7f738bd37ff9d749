# expect: ok
import torch


def project_out(v, basis):
    """Gram-Schmidt: remove what is already covered."""
    for b in basis:
        v = v - (v * b).sum() / ((b * b).sum() + 1e-12) * b
    return v


def merge_models(model_dict, device):
    basis = []
    for v in model_dict.values():
        basis.append(project_out(v.to(device), basis))
    return sum(basis) * 0.5
