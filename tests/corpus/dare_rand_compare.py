# expect: ok random
import torch


def merge_models(model_dict, device):
    drop_rate = 0.1
    out = None
    for v in model_dict.values():
        keep = (torch.rand(v.shape, device=device) > drop_rate).float()
        part = (v * keep) / (1.0 - drop_rate)
        out = part if out is None else out + part
    return out / len(model_dict)
