# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    return torch.tanh(500 * a) * 1e-3 + b.clamp(-1e-3, 1e-3)
