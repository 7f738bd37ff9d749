# expect: ok
import numpy as np
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    array = np.zeros(3, dtype=np.float32)
    weights = torch.from_numpy(array)
    weights[0] = a.norm()
    array[1] = 0.5
    weights[2] = 1
    return a * float(array[0]) + b * weights[1] + c * float(array[2])
