# expect: ok
import torch


def merge_models(model_dict, device):
    mean = torch.stack(list(model_dict.values())).mean(0)
    x = torch.ones(mean.size(1), 1)
    for _ in range(4):
        x = torch.mm(mean.t(), torch.mm(mean, x))
        x = x / x.norm()
    top = torch.mm(mean, x).norm()
    return mean / (1.0 + top)
