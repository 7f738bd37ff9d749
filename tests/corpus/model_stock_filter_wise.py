# expect: ok
import torch


def merge_models(model_dict, device):
    d = torch.stack(list(model_dict.values())).to(device)
    n = d.shape[0]
    unit = d / d.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    pairs = [(unit[i] * unit[j]).sum(-1, keepdim=True) for i in range(n) for j in range(i)]
    cos = sum(pairs) / len(pairs)
    ratio = (n * cos) / (1 + (n - 1) * cos)
    return ratio * d.mean(0)
