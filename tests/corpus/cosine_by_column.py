# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = [x.to(device) for x in model_dict.values()]
    sim = F.cosine_similarity(a, b, dim=0)
    gate = (sim + 1) / 2
    return gate * (a + b) / 2 + (1 - gate) * c
