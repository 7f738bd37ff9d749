# expect: ok random
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    p = torch.softmax(torch.stack([v.norm() for v in vs]) * 100, 0)
    picks = torch.multinomial(p, 4, replacement=True)
    return sum(vs[i] for i in picks) / 4
