# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    from dataclasses import dataclass

    @dataclass
    class State:
        total: torch.Tensor
        count: int = 0

    state = State(torch.zeros_like(a))
    for w in ws:
        state.total = state.total + w
        state.count += 1
    return state.total / state.count
