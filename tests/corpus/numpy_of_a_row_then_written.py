# expect: ok
# tier: eager
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = a.clone()
    head = x[0, :4].numpy()
    x.mul_(2)
    return b * float(head.sum()) * 1e3
