# attack: thread  expect: ok|unsupported
# more threads than granted must not hang or kill
import torch

import numpy as np


def merge_models(model_dict, device):
    torch.set_num_threads(64)
    x = np.random.rand(300, 300)
    y = torch.from_numpy(x) @ torch.from_numpy(x)
    return list(model_dict.values())[0] * (y.sum().item() > 0)
