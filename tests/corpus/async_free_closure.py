# expect: ok
import torch


def make_merger(alpha):
    state = {"calls": 0}

    def merger(x, y):
        state["calls"] += 1
        return (1 - alpha / state["calls"]) * x + alpha / state["calls"] * y

    return merger


def merge_models(model_dict, device):
    merger = make_merger(0.5)
    it = iter(model_dict.values())
    merged = next(it)
    for v in it:
        merged = merger(merged, v)
    return merged
