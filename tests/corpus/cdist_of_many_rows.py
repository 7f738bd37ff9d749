# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = (v.repeat(2, 1) if v.dim() > 1 else v[:, None] for v in model_dict.values())
    gaps = torch.cdist(a, b)
    weights = torch.softmax(-gaps / gaps.mean(), dim=1)
    mixed = 0.5 * a + 0.5 * weights @ c
    first = next(iter(model_dict.values()))
    return mixed[: first.shape[0]].reshape(first.shape)
