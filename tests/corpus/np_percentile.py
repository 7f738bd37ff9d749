# expect: ok
import numpy as np
import torch


def merge_models(model_dict, device):
    norms = [v.norm().item() for v in model_dict.values()]
    cut = np.percentile(norms, 50)
    picked = [v for v, n in zip(model_dict.values(), norms) if n >= cut]
    return torch.stack(picked).mean(dim=0)
