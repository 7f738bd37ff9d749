# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    out = sum(vs) / len(vs)
    for i in range(min(4, out.shape[0])):
        row = torch.stack([v[i] for v in vs])
        out[i] = row.max(dim=0).values
    return out
