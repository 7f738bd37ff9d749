# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    scale = max(w.abs().max().item() for w in ws)
    return sum(w * (w.abs().max() / scale) for w in ws) / 3
