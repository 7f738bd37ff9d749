# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    z = [(w - w.mean()) / (w.std() + 1e-8) for w in ws]
    return 1e-3 * (z[0] + 0.5 * z[1] - 0.2 * z[2])
