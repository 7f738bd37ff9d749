# expect: ok
import functools
import torch


def scaled(factor):
    def wrap(fn):
        @functools.wraps(fn)
        def inner(*args, **kwargs):
            return factor * fn(*args, **kwargs)
        return inner
    return wrap


@scaled(0.5)
def blend(a, b, c):
    return a + torch.sin(b) * torch.cos(c)


def merge_models(model_dict, device):
    return blend(*model_dict.values())
