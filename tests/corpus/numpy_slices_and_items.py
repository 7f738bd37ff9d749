# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    weights = torch.tensor([1.0, 2.0, 3.0])
    tail = weights[1:]
    array, first = tail.numpy(), weights.numpy()[0]
    weights *= 2
    array[0] += 1
    tail += 1
    return a * weights[0] + b * float(array[0]) + c * weights[1] * float(first)
