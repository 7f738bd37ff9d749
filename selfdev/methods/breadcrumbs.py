"""Model Breadcrumbs (arXiv 2312.06795): drop the largest and the smallest entries, add up.

`gamma` is the share of the largest that go; of the smallest as many as leave `density`, and fewer of
the largest where they alone would leave less. Entries at a threshold stay.
"""

import torch

PARAMETERS = {
    "density": {"over": 0, "most": 1, "about": "share of entries kept"},
    "gamma": {"least": 0, "below": 1, "about": "share of the largest entries that go"},
    "weights": {"list": True, "about": "one number an expert, with commas; all 1 if empty"},
    "scale": {"about": "factor of the merged task vector"},
}


def merge_models(model_dict, device, density=0.9, gamma=0.01, weights="", scale=1.0):
    vectors = [vector.to(device) for vector in model_dict.values()]
    shares = [float(word) for word in weights.split(",")] if weights else [1.0] * len(vectors)
    if len(shares) != len(vectors):
        raise ValueError(f"{len(shares)} weights for {len(vectors)} experts")
    merged = torch.zeros_like(vectors[0])
    for share, vector in zip(shares, vectors):
        size = vector.abs().flatten()
        count = size.numel()
        stay = max(1, min(count, int(density * count)))
        bottom = max(0, count - stay - int(gamma * count))
        low, high = size.kthvalue(bottom + 1).values, size.kthvalue(bottom + stay).values
        inside = (vector.abs() >= low) & (vector.abs() <= high)
        merged = merged + share * torch.where(inside, vector, torch.zeros_like(vector))
    return scale * merged
