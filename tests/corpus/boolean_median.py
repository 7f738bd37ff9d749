# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    merged = sum(vs) / len(vs)
    pos, neg = merged[merged > 0], merged[merged < 0]
    shift = pos.median() + neg.median()
    spread = pos.std() + neg.std()
    return torch.where(merged.abs() < spread, merged, merged - 0.1 * shift)
