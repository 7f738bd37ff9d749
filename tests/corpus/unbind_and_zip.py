# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack([v for v in model_dict.values()], dim=0)
    x, y, z = torch.unbind(stack, dim=0)
    pairs = zip((x, y, z), (y, z, x))
    return sum(torch.minimum(p, q) + torch.maximum(p, q) for p, q in pairs) / 6
