# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    s = torch.stack(ws)
    keep = torch.sign(s) == torch.sign(s.sum(0))
    return (s * keep).sum(0) / keep.sum(0).clamp(min=1)
