# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = (v.to(device) for v in model_dict.values())
    s = a.abs().max() + b.abs().max() + c.abs().max()
    an, bn, cn = a / s, b / s, c / s
    return s * (an + 0.5 * bn - 0.25 * cn + 2 * an * bn - an.pow(3) + bn ** 2 * cn)
