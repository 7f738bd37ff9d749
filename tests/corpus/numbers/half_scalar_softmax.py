# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    n = torch.stack([v.norm() for v in (a, b, c)]).bfloat16()
    w = torch.softmax(n * 50, 0) + 0.1 * torch.log_softmax(n * 50, 0)
    return sum(wi.float() * v for wi, v in zip(w, (a, b, c)))
