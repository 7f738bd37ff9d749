# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    s = torch.stack(ws)
    return s.mean(0) * torch.exp(-s.std(0) * 100)
