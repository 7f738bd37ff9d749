# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    weights = torch.stack([x.norm() for x in (a, b, c)])
    array = weights.numpy()
    weights /= weights.sum()
    return sum(float(w) * x for w, x in zip(array, (a, b, c)))
