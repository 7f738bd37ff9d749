# expect: ok
# tier: eager
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    def numbers():
        result = b
        try:
            result = torch.tensor(a.tolist())
        finally:
            return result  # noqa: B012

    return numbers()
