# expect: ok
import torch
import torch.nn as nn


class Mixer(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n))

    def forward(self, xs):
        w = torch.softmax(self.logits, dim=0)
        return sum(w[i] * x for i, x in enumerate(xs))


def merge_models(model_dict, device):
    mixer = Mixer(len(model_dict)).to(device)
    with torch.no_grad():
        return mixer([v.to(device) for v in model_dict.values()])
