# expect: ok
import torch


def merge_models(model_dict, device):
    vs = [v.to(device) for v in model_dict.values()]
    merged = 0
    for v in vs:
        centered = v - v.mean(dim=0)
        merged = merged + centered / (v.std(dim=0) + 1e-8)
    scale = torch.stack([v.std(dim=0) for v in vs]).mean(dim=0)
    return merged / len(vs) * scale
