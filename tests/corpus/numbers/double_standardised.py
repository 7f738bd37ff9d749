# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = a.double()
    return ((x - x.mean()) / x.std()).float() * b.std()
