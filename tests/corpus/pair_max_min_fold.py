# expect: ok
import torch


def merge_models(model_dict, device):
    names = sorted(model_dict)
    acc = model_dict[names[0]].to(device)
    for n in names[1:]:
        v = model_dict[n].to(device)
        acc = 0.4 * acc + 0.3 * v + 0.2 * torch.max(acc, v) + 0.1 * torch.min(acc, v)
    return acc
