# expect: ok
import torch


def merge_models(model_dict, device):
    deltas = torch.stack([v.to(device) for v in model_dict.values()])
    variance = deltas.var(dim=0, unbiased=False)
    k = int(0.5 * variance.numel())
    threshold = variance.flatten().kthvalue(variance.numel() - k + 1).values
    selected = deltas * (variance >= threshold)
    energy = selected.pow(2).flatten(1).mean(dim=1)
    weight = (energy / energy.sum()).view(-1, 1, 1)
    sign = torch.sign(selected.sum(0))
    agree = (selected.sign() == sign).to(deltas.dtype)
    total = (agree * weight).sum(0)
    return (selected * agree * weight).sum(0) / torch.where(total == 0, torch.ones_like(total), total)
