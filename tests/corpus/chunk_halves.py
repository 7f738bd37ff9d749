# expect: ok
import torch


def merge_models(model_dict, device):
    parts = [torch.chunk(v, 2, dim=-1) for v in model_dict.values()]
    left = torch.stack([p[0] for p in parts]).mean(0)
    right = torch.stack([p[1] for p in parts]).max(0).values
    return torch.cat([left, right], dim=-1)
