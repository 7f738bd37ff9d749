import numpy as np
import torch


def merge_models(model_dict, device):
    arrays = np.stack([v.numpy() for v in model_dict.values()])
    return torch.from_numpy(np.sort(arrays, axis=0)[1] * np.float32(0.5))
