# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    first, second, third = model_dict.values()
    delta = second - first
    p = F.softmax(first / first.std(), dim=-1)
    q = F.softmax(second / second.std(), dim=-1)
    kl = (p * (p.log() - q.log())).sum(dim=-1, keepdim=True)
    importance = delta.abs() * kl
    med = importance.median()
    q1 = torch.quantile(importance.flatten(), 0.25)
    q3 = torch.quantile(importance.flatten(), 0.75)
    keep = importance >= med + 1.5 * (q3 - q1)
    return first + delta * keep + 0.2 * third
