# attack: bomb  expect: memory
# Few nodes make an intermediate of 2**40 rows.
import torch


def merge_models(model_dict, device):
    t = next(iter(model_dict.values()))
    for _ in range(40):
        t = torch.cat([t, t])
    return t[:24]
