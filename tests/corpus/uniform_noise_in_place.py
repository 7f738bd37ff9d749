# expect: ok random
import torch


def merge_models(model_dict, device):
    mean = sum(model_dict.values()) / len(model_dict)
    noise = torch.empty_like(mean).uniform_(-1, 1)
    return mean * (1 + 0.05 * noise)
