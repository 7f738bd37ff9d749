# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    ratio = a.norm() / (b.norm() + 1e-9)
    g = torch.sigmoid(torch.log(ratio))
    return g * a + (1 - g) * b + 0.1 * torch.relu(c) - 0.1 * torch.relu(-c)
