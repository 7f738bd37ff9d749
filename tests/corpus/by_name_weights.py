# expect: ok
import torch


def merge_models(model_dict, device):
    # more weight to the model that comes first
    names = list(model_dict.keys())
    weights = {n: 1.0 / (i + 2) for i, n in enumerate(names)}
    total = sum(weights.values())
    out = torch.zeros_like(model_dict[names[0]])
    for n in names:
        out = out + (weights[n] / total) * model_dict[n].to(device)
    return out
