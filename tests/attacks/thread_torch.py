# attack: thread  expect: unsupported
# More threads than granted must not hang or kill.
import numpy as np
import torch


def merge_models(model_dict, device):
    torch.set_num_threads(64)
    x = np.random.rand(300, 300)
    y = torch.from_numpy(x) @ torch.from_numpy(x)
    return next(iter(model_dict.values())) * (y.sum().item() > 0)
