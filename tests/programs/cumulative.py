# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    s = torch.cumsum(torch.stack(ws), dim=0)
    return s[-1] / 3 + 0.1 * s[0]
