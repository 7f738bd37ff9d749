# expect: ok
# tier: eager
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = a.clone()
    x.as_strided((x.shape[1] // 2, 2), (1, 1)).mul_(3)
    return x
