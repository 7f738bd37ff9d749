# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    m = a.clone()
    m[:0] = 5 * b[:0]
    m[: m.shape[0] // 2] = 0.5 * b[: m.shape[0] // 2]
    return m
