# expect: ok
import torch


def merge_models(model_dict, device):
    flat = torch.stack([v.flatten() for v in model_dict.values()])
    gram = flat @ flat.T
    vals, vecs = torch.linalg.eigh(gram)
    lead = vecs[:, -1].abs()
    w = lead / lead.sum()
    return (w[:, None] * flat).sum(0).view_as(list(model_dict.values())[0])
