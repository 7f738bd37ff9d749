# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    out = 0.5 * a + 0.5 * b
    h, w = out.shape[0] // 2, out.shape[1] // 2
    out[:h, :w] = c[:h, :w]
    out[h:, w:] += 0.1 * c[h:, w:]
    return out
