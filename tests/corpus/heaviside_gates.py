# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    gate = torch.heaviside(a.abs() - b.abs(), torch.tensor(0.5))
    return gate * a + (1 - gate) * b + 0.1 * torch.copysign(c.abs(), a)
