# attack: bomb  expect: timeout
# small in memory, a day of work
import torch


def merge_models(model_dict, device):
    t = torch.ones(4096, 4096) * list(model_dict.values())[0].norm()
    for _ in range(4000):
        t = t @ t
    return t[:24, :40]
