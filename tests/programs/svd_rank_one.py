# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    u, s, v = torch.linalg.svd(a + b, full_matrices=False)
    return s[0] * torch.outer(u[:, 0], v[0])
