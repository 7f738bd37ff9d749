# expect: ok
# tier: eager
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    try:
        merged = torch.tensor(a.tolist())
    except:  # noqa: E722
        merged = b
    return merged
