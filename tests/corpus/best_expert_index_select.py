# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    scores = torch.tensor([v.abs().mean() for v in vs])
    best = torch.argmax(scores).item()
    rest = [v for i, v in enumerate(vs) if i != best]
    return 0.6 * vs[best] + 0.2 * sum(rest)
