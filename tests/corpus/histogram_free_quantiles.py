# expect: ok
import torch


def merge_models(model_dict, device):
    qs = torch.tensor([0.25, 0.5, 0.75])
    out = 0
    for v in model_dict.values():
        q1, q2, q3 = torch.quantile(v.flatten(), qs)
        iqr = q3 - q1
        out = out + torch.clamp(v - q2, -1.5 * iqr, 1.5 * iqr)
    return out / 3
