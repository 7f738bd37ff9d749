# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = [v.to(device) for v in model_dict.values()]
    rows = a.mean(dim=1)
    cols = b.mean(dim=0)
    rank_one = torch.outer(rows, cols)
    return 0.5 * c + 0.1 * rank_one / (rank_one.norm() + 1e-8) * c.norm()
