# expect: ok
# tier: eager
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    class Doubled(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            result = super().__torch_function__(func, types, args, kwargs or {})
            return result * 2 if func is torch.add else result

    return torch.add(a.as_subclass(Doubled), b).as_subclass(torch.Tensor)
