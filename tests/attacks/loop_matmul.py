# attack: loop  expect: timeout
import numpy as np


def merge_models(model_dict, device):
    t = np.ones((512, 512))
    while True:
        t = t @ t
