# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    return 2 * a * b / (a + b + torch.sign(a + b) * 1e-3 + 1e-6)
