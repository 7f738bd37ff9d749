# expect: ok
import torch


def merge_models(model_dict, device):
    """Different mixing for the two halves of the rows."""
    tops, bottoms = [], []
    for v in model_dict.values():
        half = v.shape[0] // 2
        tops.append(v[:half])
        bottoms.append(v[half:])
    top = sum(tops) / len(tops)
    bottom = torch.stack(bottoms).median(dim=0).values
    return torch.cat([top, bottom], dim=0)
