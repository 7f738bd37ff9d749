# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    n = torch.stack([torch.norm(w) for w in ws])
    return sum(s * w for s, w in zip(n / n.sum(), ws))
