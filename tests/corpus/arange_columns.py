# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    pos = torch.arange(a.size(-1), dtype=torch.float32, device=device)
    wave = 0.5 + 0.5 * torch.cos(pos / a.size(-1) * 3.14159)
    return wave * a + (1 - wave) * c
