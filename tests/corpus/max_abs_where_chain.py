# expect: ok
import torch


def merge_models(model_dict, device):
    result = None
    for v in model_dict.values():
        if result is None:
            result = v.clone()
            continue
        result = torch.where(v.abs() > result.abs(), v, result)
    return result * 0.7
