# expect: ok
import torch


def merge_models(model_dict, device):
    mean = torch.stack(list(model_dict.values())).mean(0)
    edges = torch.tensor([0.0002, 0.0005, 0.001])
    scale = torch.tensor([0.0, 0.5, 0.8, 1.0])
    level = torch.bucketize(mean.abs(), edges)
    return mean * scale[level]
