# expect: ok random
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    dropped = [F.dropout(v, p=0.1, training=True) for v in model_dict.values()]
    return torch.stack(dropped).mean(0)
