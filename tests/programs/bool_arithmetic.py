# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    agree = (a > 0) & (b > 0) | (a < 0) & ~(b > 0)
    return torch.where(agree, a + b, c) * 0.5
