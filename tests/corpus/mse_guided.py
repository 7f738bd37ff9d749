# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    ref = torch.stack(vs).mean(0)
    losses = torch.stack([F.mse_loss(v, ref) for v in vs])
    w = F.softmin(losses / losses.mean(), dim=0)
    return (w.reshape(-1, *[1] * ref.dim()) * torch.stack(vs)).sum(0)
