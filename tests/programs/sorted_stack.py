# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    s, _ = torch.sort(torch.stack(ws), dim=0)
    return 0.2 * s[0] + 0.6 * s[1] + 0.2 * s[2]
