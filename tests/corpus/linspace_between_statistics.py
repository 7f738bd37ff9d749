# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    steps = torch.linspace(a.min(), a.max(), a.shape[-1])
    return a + b * steps
