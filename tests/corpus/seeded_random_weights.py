# expect: ok
import torch


def merge_models(model_dict, device):
    torch.manual_seed(0)
    w = torch.rand(len(model_dict))
    w = w / w.sum()
    return sum(wi.item() * v for wi, v in zip(w, model_dict.values()))
