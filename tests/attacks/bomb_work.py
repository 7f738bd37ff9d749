# attack: bomb  expect: timeout
# It takes little memory and a day of work.
import torch


def merge_models(model_dict, device):
    t = torch.ones(4096, 4096) * next(iter(model_dict.values())).norm()
    for _ in range(4000):
        t = t @ t
    return t[:24, :40]
