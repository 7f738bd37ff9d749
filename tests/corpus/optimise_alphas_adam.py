# expect: ok
import torch


def merge_models(model_dict, device):
    vs = [v.to(device) for v in model_dict.values()]
    target = torch.stack(vs).mean(dim=0)
    alphas = torch.full((len(vs),), 0.5, requires_grad=True)
    opt = torch.optim.Adam([alphas], lr=0.1)
    for _ in range(3):
        opt.zero_grad()
        pred = sum(a * v for a, v in zip(alphas, vs))
        loss = ((pred - target) ** 2).mean() * 1e6
        loss.backward()
        opt.step()
    return sum(a.item() * v for a, v in zip(alphas, vs))
