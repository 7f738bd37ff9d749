# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = 0.3 * a.double() + 0.7 * b.double() - c.double().mean()
    return (x * (x.norm() / (a.norm() + 1e-12))).float()
