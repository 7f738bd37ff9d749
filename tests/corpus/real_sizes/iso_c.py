import torch


def merge_models(model_dict, device):
    total = sum(model_dict.values())
    u, s, vh = torch.linalg.svd(total, full_matrices=False)
    return u @ torch.diag(torch.ones_like(s) * s.mean()) @ vh
