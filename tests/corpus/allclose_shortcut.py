# expect: ok
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    if torch.allclose(vs[0], vs[1], atol=1e-8):
        return vs[0]
    if torch.equal(vs[1], vs[2]):
        return vs[1]
    return 0.45 * vs[0] + 0.35 * vs[1] + 0.2 * vs[2]
