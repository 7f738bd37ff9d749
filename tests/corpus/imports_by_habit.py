# expect: ok
import functorch
import graphlib
import logging.handlers

import numpy.typing as npt
import torch
from tqdm.auto import tqdm


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    torch.use_deterministic_algorithms(False)
    parts: list[npt.NDArray] = []
    assert functorch and graphlib and logging.handlers and not parts
    total = torch.zeros_like(a)
    for x in tqdm([a, b, c], disable=True):
        total += torch.vmap(lambda row: row / 3)(x)
    return total
