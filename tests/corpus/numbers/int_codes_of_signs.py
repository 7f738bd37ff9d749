# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    code = sum(((v > 0).long() << i) for i, v in enumerate((a, b, c)))
    return torch.where(code & 3 == 2, a, torch.where(code >> 1 == 3, b, c))
