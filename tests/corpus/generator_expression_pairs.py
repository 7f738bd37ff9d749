# expect: ok
import itertools
import torch


def merge_models(model_dict, device):
    pairs = itertools.combinations(model_dict.values(), 2)
    mids = [(x + y) / 2 for x, y in pairs]
    return torch.stack(mids).median(dim=0)[0]
