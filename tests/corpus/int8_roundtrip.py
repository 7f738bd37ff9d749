# expect: ok
import torch


def merge_models(model_dict, device):
    out = 0
    for v in model_dict.values():
        scale = v.abs().max() / 126.7
        q = torch.clamp(torch.round(v / scale), -127, 127).to(torch.int8)
        out = out + q.float() * scale
    return out / 3
