# expect: ok
import torch


def merge_models(model_dict, device):
    if len(model_dict) == 0:
        raise ValueError("no models")
    values = list(model_dict.values())
    if len(values) == 1:
        return values[0]
    merged, count = values[0].clone(), 1
    for v in values[1:]:
        merged = (merged * count + v) / (count + 1)
        count += 1
    return merged
