# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    norms = torch.tensor([v.norm().item() for v in vs])
    chosen = torch.where(norms >= norms.mean())[0]
    return sum(vs[int(i)] for i in chosen) / len(chosen)
