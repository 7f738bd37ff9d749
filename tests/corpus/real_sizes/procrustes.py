import torch


def merge_models(model_dict, device):
    first, *others = model_dict.values()
    merged = first.clone()
    for other in others:
        u, _, vh = torch.linalg.svd(first @ other.t())
        merged += (u @ vh) @ other
    return merged / len(model_dict)
