# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    m = (0.5 * a).contiguous()
    flat = m.view(-1)
    flat[: flat.numel() // 3] += 0.2 * b.reshape(-1)[: flat.numel() // 3]
    return m
