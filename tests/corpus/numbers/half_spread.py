# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    return (a * 100).half().std().float() * b + (c * 100).bfloat16().var(0).float() * a
