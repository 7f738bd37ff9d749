# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    n = torch.tensor([w.abs().mean() for w in ws])
    p = torch.softmax(n * 1000, dim=0)
    return sum(s * w for s, w in zip(p, ws))
