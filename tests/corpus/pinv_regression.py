# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    X = torch.stack([v.flatten() for v in vs], dim=1)
    y = X.mean(dim=1)
    gram = X.T @ X
    coef = torch.linalg.pinv(gram) @ (X.T @ y)
    return (X @ coef).view(vs[0].shape)
