# attack: file  expect: violation
import numpy as np


def merge_models(model_dict, device):
    np.memmap("/tmp/selfdev_attack", mode="w+", shape=(3,))
    return next(iter(model_dict.values()))
