# expect: ok
import torch


def merge_models(model_dict, device):
    beta, velocity, merged = 0.9, None, None
    for v in model_dict.values():
        velocity = v.clone() if velocity is None else beta * velocity + (1 - beta) * v
        merged = velocity if merged is None else merged + 0.5 * velocity
    return merged / 2
