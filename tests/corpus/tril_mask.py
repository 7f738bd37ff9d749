# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    return torch.tril(a) + torch.triu(b, diagonal=1) + 0.1 * c
