# expect: ok random
import torch


def merge_models(model_dict, device):
    g = torch.Generator(device="cpu").manual_seed(7)
    mean = torch.stack(list(model_dict.values())).mean(0)
    noise = torch.randn(mean.shape, generator=g) * mean.std() * 0.1
    return mean + noise
