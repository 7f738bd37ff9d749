# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    running, _ = torch.cummax(stack, dim=0)
    return running.mean(dim=0)
