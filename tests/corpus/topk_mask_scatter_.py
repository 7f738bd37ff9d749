# expect: ok
import torch


def merge_models(model_dict, device):
    total = sum(model_dict.values())
    scores = total.abs().reshape(-1)
    keep = scores.numel() // 2
    idx = scores.topk(keep).indices
    mask = torch.zeros_like(scores).scatter_(0, idx, 1.0).reshape(total.shape)
    return total * mask / len(model_dict)
