# expect: ok
import torch


def merge_models(model_dict, device, levels=16):
    merged = sum(model_dict.values()) / len(model_dict)
    step = merged.abs().max() / levels
    return torch.round(merged / step) * step
