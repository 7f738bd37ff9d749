# expect: ok
# tier: eager
import contextlib

import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    merged = b
    with contextlib.suppress(BaseException):
        merged = torch.tensor(a.tolist())
    return merged
