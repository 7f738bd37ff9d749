# attack: file  expect: violation
import torch


def merge_models(model_dict, device):
    print("BREACH", torch.load("/tmp/secret"))
    return next(iter(model_dict.values()))
