# expect: ok
import torch


def merge_models(model_dict, device, max_rounds=12, tolerance=1e-9):
    points = torch.stack([v.flatten() for v in model_dict.values()])
    centre = points.mean(0)
    for _ in range(max_rounds):
        distances = torch.norm(points - centre, dim=1).clamp_min(1e-10)
        weights = 1.0 / distances
        moved = (weights[:, None] * points).sum(0) / weights.sum()
        done = torch.norm(moved - centre) <= tolerance * torch.norm(centre)
        centre = moved
        if done:
            break
    return centre.view(next(iter(model_dict.values())).shape)
