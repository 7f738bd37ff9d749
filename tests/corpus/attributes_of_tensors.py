# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    own = ("buffer", "path", "meta", "cached", "node")
    return b if not any(hasattr(a, name) for name in own) and not vars(a) else c
