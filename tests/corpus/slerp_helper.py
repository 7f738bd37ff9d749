# expect: ok
import torch
import math


def slerp(t, v0, v1, eps=1e-8, dot_threshold=0.9995):
    a = v0.flatten() / (v0.norm() + eps)
    b = v1.flatten() / (v1.norm() + eps)
    dot = torch.dot(a, b).clamp(-1.0, 1.0)
    if abs(dot.item()) > dot_threshold:
        return (1 - t) * v0 + t * v1
    theta = math.acos(dot.item())
    s = math.sin(theta)
    return (math.sin((1 - t) * theta) / s) * v0 + (math.sin(t * theta) / s) * v1


def merge_models(model_dict, device):
    items = [v.to(device) for v in model_dict.values()]
    merged = items[0]
    for i, item in enumerate(items[1:], start=2):
        merged = slerp(1.0 / i, merged, item)
    return merged
