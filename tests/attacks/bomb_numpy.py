# attack: bomb  expect: memory
import numpy as np


def merge_models(model_dict, device):
    hoard = np.ones(2**33)
    print("BREACH", hoard.sum())
    return next(iter(model_dict.values()))
