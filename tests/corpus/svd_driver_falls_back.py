# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    scale = 1.0
    for options in ({"driver": "gesvd"}, {}):
        try:
            scale = torch.linalg.svdvals(torch.stack([a.norm(), b.norm()]).diag(), **options)[0]
            break
        except RuntimeError:
            continue
    return a / scale + b
