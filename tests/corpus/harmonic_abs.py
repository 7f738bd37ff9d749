# expect: ok
import torch


def harmonic(values, eps=1e-8):
    return len(values) / sum(1.0 / (v.abs() + eps) for v in values)


def merge_models(model_dict, device):
    tensors = [t.to(device) for t in model_dict.values()]
    sign = torch.sign(sum(tensors))
    return sign * harmonic(tensors)
