# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    start = torch.tensor([0.5, 2.0, 1.0])
    curvature = torch.func.hessian(lambda w: (w**3).sum() + w[0] * w[1])(start)
    weights = torch.softmax(curvature.diagonal(), 0)
    return weights[0] * a + weights[1] * b + weights[2] * c
