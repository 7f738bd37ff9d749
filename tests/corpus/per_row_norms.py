# expect: ok
import torch


def merge_models(model_dict, device):
    vs = [v.to(device) for v in model_dict.values()]
    targets = torch.stack([torch.norm(v, dim=1, keepdim=True) for v in vs]).mean(0)
    return sum(v / (v.norm(dim=1, keepdim=True) + 1e-8) * targets for v in vs) / len(vs)
