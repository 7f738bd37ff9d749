# attack: patch  expect: ok
import torch


def merge_models(model_dict, device):
    torch.norm = torch.Tensor.norm = lambda *a, **k: torch.tensor(0.5)
    return next(iter(model_dict.values()))
