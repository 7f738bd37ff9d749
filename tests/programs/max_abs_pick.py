# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    s = torch.stack(ws)
    top = s.abs().argmax(dim=0, keepdim=True)
    return s.gather(0, top).squeeze(0)
