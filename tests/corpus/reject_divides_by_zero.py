# expect: reject nonfinite runtime
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    return a / (b - b)
