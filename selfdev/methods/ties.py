"""TIES (arXiv 2306.01708): trim each task vector, elect signs, average those that agree.

Trimming is per tensor and keeps every entry at the threshold, so the result does not depend on how
ties are sorted. The sign is that of the weighted sum; a sum of zero elects plus.
"""

import torch

PARAMETERS = {
    "density": {"over": 0, "most": 1, "about": "share of entries kept"},
    "weights": {"list": True, "about": "one number an expert, with commas; all 1 if empty"},
    "scale": {"about": "factor of the merged task vector"},
    "densities": {
        "list": True,
        "over": 0,
        "most": 1,
        "about": "one share an expert, with commas; density if empty",
    },
    "normalize": {"about": "whether the sum is divided by the weights of those that agree"},
}


def merge_models(
    model_dict, device, density=0.2, weights="", scale=1.0, densities="", normalize=True
):
    vectors = [vector.to(device) for vector in model_dict.values()]
    shares = [float(word) for word in weights.split(",")] if weights else [1.0] * len(vectors)
    if len(shares) != len(vectors):
        raise ValueError(f"{len(shares)} weights for {len(vectors)} experts")
    stay = [float(word) for word in densities.split(",")] if densities else [density] * len(vectors)
    if len(stay) != len(vectors):
        raise ValueError(f"{len(stay)} densities for {len(vectors)} experts")
    kept = []
    for share, part, vector in zip(shares, stay, vectors):
        size = vector.abs().flatten()
        count = size.numel()
        drop = min(count - 1, max(0, count - int(part * count)))
        bar = size.kthvalue(drop + 1).values
        kept.append(share * torch.where(vector.abs() >= bar, vector, torch.zeros_like(vector)))
    positive = sum(kept) >= 0
    total, voters = torch.zeros_like(vectors[0]), torch.zeros_like(vectors[0])
    for share, vector in zip(shares, kept):
        agrees = ((vector > 0) & positive) | ((vector < 0) & ~positive)
        total = total + torch.where(agrees, vector, torch.zeros_like(vector))
        voters = voters + share * agrees
    if not normalize:
        return scale * total
    return scale * total / torch.where(voters == 0, torch.ones_like(voters), voters)
