# expect: ok
import torch


def merge_models(model_dict, device):
    s = torch.stack([v.reshape(-1) for v in model_dict.values()])
    n = s / s.norm(dim=1, keepdim=True)
    sim = torch.bmm(n.unsqueeze(0), n.t().unsqueeze(0)).squeeze(0)
    w = torch.softmax(sim.mean(1) * 5, 0)
    out = w @ s
    return out.view(list(model_dict.values())[0].shape)
