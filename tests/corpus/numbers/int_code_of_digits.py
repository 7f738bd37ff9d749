# expect: ok hybrid
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    s = torch.stack([a, b, c])
    code = torch.zeros_like(a, dtype=torch.long)
    for i in range(12):
        code = code * 7 + (s[i % 3].abs() > s[i % 3].abs().mean() * (i + 1) / 6).long()
    return s.mean(0) * (1 + (code % 5) * 0.1)
