# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    same = a * b > 0
    t = torch.quantile(a[same].abs(), 0.5)
    return torch.where(same & (a.abs() > t), a, 0.5 * (b + c))
