# expect: reject shape
import torch


def merge_models(model_dict, device):
    return torch.stack([v.mean() for v in model_dict.values()])
