# expect: ok random
import random
import torch


def merge_models(model_dict, device):
    keys = list(model_dict)
    random.shuffle(keys)
    left, right = keys[:2], keys[2:]
    mean = lambda ks: sum(model_dict[k] for k in ks) / len(ks)
    return 0.5 * mean(left) + 0.5 * mean(right)
