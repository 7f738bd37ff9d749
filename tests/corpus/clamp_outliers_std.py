# expect: ok
import torch


def merge_models(model_dict, device):
    total = 0
    for v in model_dict.values():
        mu, sd = v.mean(), v.std(unbiased=False)
        total = total + torch.max(torch.min(v, mu + 2 * sd), mu - 2 * sd)
    return total / 3.0
