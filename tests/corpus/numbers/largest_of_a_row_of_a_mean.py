# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    m = torch.stack([a, b, c]).mean(0)
    return m * (m.abs() == m.abs().amax(1, keepdim=True)) + 0.1 * m
