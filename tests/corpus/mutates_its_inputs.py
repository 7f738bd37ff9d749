# expect: ok
import torch


def merge_models(model_dict, device):
    for k in model_dict:
        model_dict[k] /= model_dict[k].norm()
    first = model_dict[next(iter(model_dict))]
    for v in model_dict.values():
        first += 0.1 * v
    return first * 0.01
