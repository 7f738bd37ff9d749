# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    if vs[0].dim() == 1:
        return sum(vs) / len(vs)
    if vs[0].ndim == 2:
        rows = torch.stack([v.abs().mean(dim=1) for v in vs])
        w = torch.softmax(rows * 100, dim=0).unsqueeze(-1)
        return (w * torch.stack(vs)).sum(dim=0)
    return vs[0]
