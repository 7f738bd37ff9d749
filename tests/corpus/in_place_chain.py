# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = [v.to(device).clone() for v in model_dict.values()]
    a.mul_(0.5).add_(b, alpha=0.25).sub_(c, alpha=-0.125)
    b.copy_(a)
    b.clamp_(-1e-3, 1e-3)
    a.addcmul_(b, b.sign(), value=0.01)
    return a
