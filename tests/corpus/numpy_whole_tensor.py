# expect: ok
# tier: eager
import numpy as np
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    array = a.numpy()
    array *= 2
    return a + torch.from_numpy(np.sort(array, axis=0))
