# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    shape = vs[0].shape
    assert all(v.shape == shape for v in vs), "shape mismatch"
    assert len(vs) >= 2
    out = torch.empty(shape, dtype=vs[0].dtype, device=device)
    out.copy_(vs[0])
    for i in range(1, len(vs)):
        out.lerp_(vs[i], 1.0 / (i + 1))
    return out
