# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    x, y, z = model_dict.values()
    # spherical interpolation of every row
    xn, yn = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
    cos = (xn * yn).sum(dim=-1, keepdim=True).clamp(-0.9999, 0.9999)
    theta = torch.acos(cos)
    t = 0.4
    w0 = torch.sin((1 - t) * theta) / torch.sin(theta)
    w1 = torch.sin(t * theta) / torch.sin(theta)
    return w0 * x + w1 * y + 0.1 * z
