# expect: ok
import torch


def merge_models(model_dict, device):
    out = []
    for v in model_dict.values():
        ordered, _ = torch.sort(v.abs().flatten(), descending=True)
        bar = ordered[int(0.15 * ordered.numel())]
        out.append(torch.where(v.abs() > bar, v, 0.5 * v))
    return sum(out) / len(out)
