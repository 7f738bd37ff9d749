# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    v = torch.stack([w.var() for w in ws])
    return (torch.stack(ws) * (v / v.sum()).view(-1, 1, 1)).sum(0)
