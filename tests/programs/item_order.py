# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    order = sorted(range(3), key=lambda i: -ws[i].norm().item())
    return 0.5 * ws[order[0]] + 0.3 * ws[order[1]] + 0.1 * ws[order[2]]
