# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    tops = torch.stack([v.abs().topk(5, dim=1).values for v in (a, b, c)])
    w = tops.mean(-1) / tops.mean(-1).sum(0, keepdim=True)
    return torch.einsum("nr,nrc->rc", w, torch.stack([a, b, c]))
