# attack: bomb  expect: memory
import torch


def merge_models(model_dict, device):
    t = torch.ones(8, 8)
    while True:
        t = torch.cat([t, t])
