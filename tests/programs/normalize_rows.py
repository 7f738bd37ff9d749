# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    return F.normalize(a + b, dim=1) * c.norm(dim=1, keepdim=True)
