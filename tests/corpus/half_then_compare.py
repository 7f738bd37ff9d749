# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = [v.half() for v in model_dict.values()]
    return torch.where(a > b, a * 0.5 + c * 0.5, b).float()
