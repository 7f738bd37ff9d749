# expect: reject runtime
import torch


def merge_models(model_dict, device):
    with torch.inference_mode():
        merged = sum(model_dict.values())
    merged *= 0.5
    return merged
