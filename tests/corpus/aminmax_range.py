# expect: ok
import torch


def merge_models(model_dict, device):
    merged = 0
    for v in model_dict.values():
        low, high = torch.aminmax(v)
        merged = merged + v / (high - low)
    return merged * 2e-3
