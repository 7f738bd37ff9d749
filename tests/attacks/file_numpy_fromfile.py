# attack: file  expect: violation
import numpy as np


def merge_models(model_dict, device):
    print("BREACH", np.fromfile("/tmp/secret", np.uint8))
    return next(iter(model_dict.values()))
