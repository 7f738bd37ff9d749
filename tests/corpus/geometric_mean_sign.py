# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack([v.to(device) for v in model_dict.values()])
    log_mag = torch.log(stack.abs() + 1e-12).mean(dim=0)
    magnitude = torch.exp(log_mag)
    sign = torch.sign(stack.sum(dim=0))
    return magnitude * sign
