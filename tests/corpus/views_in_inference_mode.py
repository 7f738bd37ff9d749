# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    with torch.inference_mode():
        x = torch.zeros_like(a)
        for i, t in enumerate((a, b, c)):
            x[i::3] = t[i::3]
        x.reshape(-1)[5:] -= 1e-3
    return x
