# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    s = torch.stack(ws, dim=-1)
    return 0.6 * s.mean(-1) + 0.4 * s.max(dim=-1).values
