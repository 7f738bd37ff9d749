# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    avg = sum(vs) / 3
    n = torch.count_nonzero(avg.abs() > avg.std())
    total = avg.numel()
    return avg * (1 + n.item() / total)
