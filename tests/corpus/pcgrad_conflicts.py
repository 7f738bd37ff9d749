# expect: ok
import torch


def merge_models(model_dict, device):
    vecs = [v.to(device) for v in model_dict.values()]
    out = [v.clone() for v in vecs]
    for i, g in enumerate(out):
        for j, h in enumerate(vecs):
            if i == j:
                continue
            dot = torch.sum(g * h)
            if dot < 0:
                g -= dot / torch.sum(h * h) * h
    return sum(out) / len(out)
