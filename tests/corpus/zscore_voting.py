# expect: ok
import torch


def merge_models(model_dict, device):
    zs = []
    for v in model_dict.values():
        zs.append((v - v.mean()) / (v.std() + 1e-8))
    z = torch.stack(zs)
    votes = (z.abs() > 1.0).float()
    weight = votes / votes.sum(0, keepdim=True).clamp(min=1.0)
    vectors = torch.stack(list(model_dict.values()))
    return (weight * vectors).sum(0) + 0.1 * vectors.mean(0)
