# expect: ok
import torch


def merge_models(model_dict, device):
    acc = None
    for i, v in enumerate(model_dict.values()):
        d = v.double() * (0.5 ** (i + 1))
        acc = d if acc is None else acc + d
    return acc
