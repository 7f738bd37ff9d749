# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    cos = F.cosine_similarity(a.flatten(), b.flatten(), dim=0)
    if cos > 0.2:
        return 0.5 * (a + b)
    return 0.7 * a + 0.1 * c
