# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]

    def blend(x, y, t=0.4):
        return (1 - t) * x + t * y

    from functools import reduce

    return reduce(blend, ws)
