import torch


def merge_models(model_dict, device):
    mean = sum(model_dict.values()) / len(model_dict)
    smooth = mean.cumsum(1).flip(1).roll(1, 0)
    return smooth / smooth.std() * mean.std()
