# expect: ok random
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    keep = torch.rand_like(stack) < 0.9
    return (stack * keep).sum(0) / keep.sum(0).clamp(min=1)
