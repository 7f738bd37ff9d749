# expect: ok
import torch


def merge_models(model_dict, device):
    s = sum(v for v in model_dict.values())
    scale = s.abs().max()
    return torch.tanh(s / scale * 2.0) * scale * 0.3
