# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    out, top, where = torch.empty_like(a), torch.empty(a.shape[-1]), torch.empty(a.shape[-1], dtype=torch.long)
    torch.add(a, b, out=out)
    torch.max(a, 0, out=(top, where))
    torch.mul(out, top, out=out)
    return out
