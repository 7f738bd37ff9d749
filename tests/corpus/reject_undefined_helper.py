# expect: reject runtime
import torch


def merge_models(model_dict, device):
    normed = [normalise(v) for v in model_dict.values()]
    return sum(normed)
