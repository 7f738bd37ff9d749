# expect: ok
import torch


def merge_models(model_dict, device):
    deltas = [d.to(device) for d in model_dict.values()]
    n = len(deltas)
    cosines = []
    for i in range(n):
        for j in range(i + 1, n):
            num = (deltas[i] * deltas[j]).sum()
            cosines.append(num / (deltas[i].norm() * deltas[j].norm() + 1e-12))
    cos = torch.stack(cosines).mean()
    t = n * cos / (1 + (n - 1) * cos)
    return t * torch.stack(deltas).mean(dim=0)
