# attack: bomb  expect: memory
# A lazy tensor is only a size, which the verifier bounds.
import torch


def merge_models(model_dict, device):
    return torch.empty(2**40).sum() + next(iter(model_dict.values()))
