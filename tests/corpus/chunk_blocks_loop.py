# expect: ok
import torch


def merge_models(model_dict, device):
    """Choose the expert with the largest norm block by block."""
    vs = list(model_dict.values())
    out = torch.zeros_like(vs[0])
    block = max(1, vs[0].shape[0] // 4)
    for start in range(0, vs[0].shape[0], block):
        sl = slice(start, start + block)
        norms = [v[sl].norm().item() for v in vs]
        best = norms.index(max(norms))
        out[sl] = vs[best][sl]
    return out
