# attack: patch  expect: ok
import torch


def merge_models(model_dict, device):
    torch.Tensor.shape = property(lambda self: (24, 40))
    return torch.ones(3, 3)
