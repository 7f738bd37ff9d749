# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    norms = torch.stack([v.norm() for v in model_dict.values()])
    units = [F.normalize(v.flatten(), dim=0).view_as(v) for v in model_dict.values()]
    return norms.mean() * sum(units) / len(units)
