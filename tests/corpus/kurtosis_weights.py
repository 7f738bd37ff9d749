# expect: ok
import torch


def kurtosis(x):
    z = (x - x.mean()) / x.std()
    return (z ** 4).mean() - 3.0


def merge_models(model_dict, device):
    ks = torch.stack([kurtosis(v.to(device)) for v in model_dict.values()])
    w = torch.softmax(-ks, dim=0)
    return sum(w[i] * v for i, v in enumerate(model_dict.values()))
