# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    try:
        top = a[:0].abs().max()
    except RuntimeError:
        top = b.abs().max()
    return a * top + c
