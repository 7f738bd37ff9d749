# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    coefs = [0.4, 0.35, 0.1]
    return sum(k * w for k, w in zip(coefs, ws))
