# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    w64 = torch.tensor(0.3, dtype=torch.float64)
    mask = (a > 0).int()
    return (a * w64 + b * mask + c.double() * 0.1).to(torch.float32)
