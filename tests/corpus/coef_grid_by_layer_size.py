# expect: ok
import torch


def merge_models(model_dict, device):
    # bigger matrices get smaller steps
    values = [v.to(device) for v in model_dict.values()]
    numel = values[0].numel()
    scale = 0.5 if numel > 1000 else 0.8
    return scale * (0.6 * values[0] + 0.3 * values[1] + 0.1 * values[2])
