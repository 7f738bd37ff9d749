# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    s = torch.stack(ws)
    return s.abs().topk(2, dim=0).values.mean(0) * torch.sign(s.sum(0))
