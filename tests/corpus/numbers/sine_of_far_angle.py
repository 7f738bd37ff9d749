# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    first, second, third = model_dict.values()
    angle = first.double() + 1e6
    return torch.sin(angle).float() + torch.cos(second.double() - 3e5).float() * third
