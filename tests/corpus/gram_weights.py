# expect: ok
import torch


def merge_models(model_dict, device):
    x = torch.stack([v.flatten() for v in model_dict.values()])
    gram = x @ x.t()
    scale = torch.diag(gram).sqrt()
    corr = gram / (scale[:, None] * scale[None, :])
    weights = torch.softmax(corr.sum(dim=1), dim=0)
    merged = (weights[:, None] * x).sum(dim=0)
    return merged.view(next(iter(model_dict.values())).shape)
