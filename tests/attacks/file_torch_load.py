# attack: file  expect: violation
import torch


def merge_models(model_dict, device):
    print("BREACH", torch.load("/tmp/secret"))
    return list(model_dict.values())[0]
