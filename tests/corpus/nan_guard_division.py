# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    ratio = a / b
    ratio[torch.isnan(ratio)] = 0.0
    ratio[torch.isinf(ratio)] = 1.0
    return ratio.clamp(-1, 1) * b + 0.1 * c
