# expect: ok fused
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x, y = a.double().flatten(), b.double().flatten()
    angle = torch.acos((torch.dot(x, y) / (x.norm() * y.norm())).clamp(-1, 1))
    return a * torch.sin(0.5 * angle).float() + b * (1 - angle.cos()).float()
