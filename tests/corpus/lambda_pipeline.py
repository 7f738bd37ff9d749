# expect: ok
import torch
from functools import reduce


def merge_models(model_dict, device):
    steps = [
        lambda t: t - t.mean(),
        lambda t: t / (t.std() + 1e-6),
        lambda t: torch.clamp(t, -2.5, 2.5),
    ]
    scale = reduce(lambda x, y: x + y.std(), model_dict.values(), 0.0) / len(model_dict)
    processed = [reduce(lambda acc, f: f(acc), steps, v) for v in model_dict.values()]
    return scale * reduce(torch.add, processed) / len(processed)
