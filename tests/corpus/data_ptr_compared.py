# expect: ok
# tier: eager
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    shared = a.data_ptr() == a.view(-1).data_ptr()
    return a if shared else b
