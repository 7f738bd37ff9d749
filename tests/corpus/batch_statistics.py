# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    var, mean = torch.var_mean(stack, dim=0, unbiased=False)
    snr = mean.abs() / (var.sqrt() + 1e-12)
    return mean * torch.clamp(snr, max=1.0)
