# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    votes = torch.zeros(vs[0].shape, dtype=torch.int64)
    for v in vs:
        votes += torch.sign(v).long()
    strong = votes.abs() >= 2
    return torch.stack(vs).mean(0) * strong + 0.1 * vs[0] * (~strong)
