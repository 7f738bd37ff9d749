# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    m = torch.stack([a, b, c]).mean(0)
    cut = m.abs().flatten().kthvalue(m.numel() // 2).values
    return m * (m.abs() >= cut)
