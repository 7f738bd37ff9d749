# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    eye = torch.eye(a.shape[0], a.shape[1])
    return 0.5 * (a + b) + eye * c
