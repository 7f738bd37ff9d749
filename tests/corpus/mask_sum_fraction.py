# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    ref = vs[0]
    out = torch.zeros_like(ref)
    for v in vs:
        agree = (v.sign() == ref.sign())
        fraction = agree.sum().item() / agree.numel()
        energy = v[agree].pow(2).sum().sqrt()
        out += fraction * v / (1 + energy)
    return out
