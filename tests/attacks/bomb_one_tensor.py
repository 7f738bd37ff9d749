# attack: bomb  expect: memory
# lazy: only a size; the verifier bounds it
import torch


def merge_models(model_dict, device):
    return torch.empty(2**40).sum() + next(iter(model_dict.values()))
