# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    idx = stack.abs().argmax(dim=0, keepdim=True)
    return stack.gather(0, idx).squeeze(0)
