# expect: ok
import copy

import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = a.clone()
    whole, row = copy.deepcopy([x, x[0]])
    row.mul_(3)
    return whole + b
