# expect: ok
import torch


def merge_models(model_dict, device):
    beta1, beta2, eps = 0.9, 0.999, 1e-8
    m = v2 = 0
    for step, g in enumerate(model_dict.values(), 1):
        m = beta1 * m + (1 - beta1) * g
        v2 = beta2 * v2 + (1 - beta2) * g * g
        mhat = m / (1 - beta1 ** step)
        vhat = v2 / (1 - beta2 ** step)
    return 1e-3 * mhat / (vhat.sqrt() + eps)
