# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = [v.to(device) for v in model_dict.values()]
    merged = a.clone()
    merged[::2] = b[::2]
    merged[:, ::3] = 0.5 * (c[:, ::3] + merged[:, ::3])
    return merged
