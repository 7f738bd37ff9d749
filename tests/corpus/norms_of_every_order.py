# expect: ok
import torch


def merge_models(model_dict, device):
    out = 0
    for i, v in enumerate(model_dict.values()):
        n1 = torch.norm(v, p=1) / v.numel()
        n2 = torch.linalg.norm(v) / v.numel() ** 0.5
        n3 = v.norm(p=3)
        nf = torch.norm(v, p="fro")
        ni = v.norm(p=float("inf"))
        out = out + v * (n1 + n2) / (ni + n3 + nf)
    return out
