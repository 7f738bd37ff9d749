# expect: ok
import torch


def merge_models(model_dict, device, density=0.2, lam=0.9):
    deltas = [d.to(device).float() for d in model_dict.values()]
    kept = []
    for d in deltas:
        flat = d.abs().view(-1)
        k = int((1 - density) * flat.numel())
        if k > 0:
            cut, _ = torch.kthvalue(flat, k)
            d = d * (d.abs() > cut)
        kept.append(d)
    total = sum(kept)
    signs = torch.where(total >= 0, 1.0, -1.0)
    num = torch.zeros_like(deltas[0])
    den = torch.zeros_like(deltas[0])
    for d in kept:
        same = (torch.sign(d) == signs).float()
        num += d * same
        den += same
    den[den == 0] = 1.0
    return lam * num / den
