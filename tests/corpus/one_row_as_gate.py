# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = [v.to(device) for v in model_dict.values()]
    gate = torch.sigmoid(100 * c[0])
    return gate * a + (1 - gate) * b
