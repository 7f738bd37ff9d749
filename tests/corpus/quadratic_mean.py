# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    rms = stack.square().mean(dim=0).sqrt()
    return rms * stack.mean(dim=0).sign()
