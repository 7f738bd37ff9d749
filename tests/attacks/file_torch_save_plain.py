# attack: file  expect: violation
import torch


def merge_models(model_dict, device):
    torch.save({"numbers": [1, 2, 3]}, "/tmp/selfdev_attack.pt")
    return next(iter(model_dict.values()))
