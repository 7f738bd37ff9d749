# expect: ok
import torch


def merge_models(model_dict, device):
    halves = [v.to(torch.bfloat16) for v in model_dict.values()]
    merged = halves[0] * 0.5
    for h in halves[1:]:
        merged = merged + 0.25 * h
    return merged.to(torch.float32)
