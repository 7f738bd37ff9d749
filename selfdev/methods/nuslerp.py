"""NuSLERP of two task vectors: along the arc between their directions, each tensor as one vector.

`weights` w1,w2 put the result at w2 / (w1 + w2) of the way; lengths are blended by the same arc
factors. Parallel vectors are blended linearly.
"""

import torch

NUM_EXPERTS = 2
PARAMETERS = {
    "weights": {
        "list": True,
        "summed": True,
        "about": "two numbers, with commas; the middle if empty",
    },
}


def merge_models(model_dict, device, weights=""):
    if len(model_dict) != 2:
        raise ValueError(f"nuslerp merges two experts, not {len(model_dict)}")
    first, second = (vector.to(device) for vector in model_dict.values())
    shares = [float(word) for word in weights.split(",")] if weights else [1.0, 1.0]
    total = sum(shares)
    if abs(total) < 1e-8:
        raise ValueError("the weights add up to 0")
    way = shares[1] / total
    sizes = first.norm().clamp(min=1e-7) * second.norm().clamp(min=1e-7)
    angle = torch.acos(((first * second).sum() / sizes).clamp(-1.0, 1.0))
    arc = torch.sin(angle)
    if arc.abs() < 1e-8:
        return (1 - way) * first + way * second
    return (torch.sin((1 - way) * angle) * first + torch.sin(way * angle) * second) / arc
