# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    normed = F.layer_norm(a + b, a.shape[-1:])
    return normed * c.std() * 0.5 + 0.5 * c
