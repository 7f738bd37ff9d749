# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    keys = list(model_dict.keys())
    merged = model_dict[keys[0]].clone().to(device)
    for key in keys[1:]:
        other = model_dict[key].to(device)
        cos = F.cosine_similarity(merged.flatten(), other.flatten(), dim=0).item()
        if cos > 0.5:
            merged = (merged + other) / 2
        elif cos > 0.1:
            merged = 0.8 * merged + 0.2 * other
        else:
            merged = merged + 0.05 * other
    return merged
