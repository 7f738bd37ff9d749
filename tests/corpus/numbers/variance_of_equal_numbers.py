# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = (v.double() for v in model_dict.values())
    spread = torch.stack([a, a, a]).var(0) + torch.stack([b, b, b]).std(0)
    return torch.where(spread > 0, a + c, b).float()
