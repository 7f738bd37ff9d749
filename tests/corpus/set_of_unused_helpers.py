# expect: ok
import torch
import math
import random
from collections import OrderedDict, defaultdict


def unused_entropy(t):
    p = torch.softmax(t.flatten(), 0)
    return -(p * torch.log(p)).sum()


def unused_shuffle(items):
    random.shuffle(items)
    return items


def merge_models(model_dict, device):
    groups = defaultdict(list)
    for i, (k, v) in enumerate(OrderedDict(model_dict).items()):
        groups[i % 2].append(v)
    means = {g: sum(vs) / len(vs) for g, vs in groups.items()}
    return math.sqrt(0.25) * means[0] + 0.5 * means[1]
