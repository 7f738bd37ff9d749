"""DARE (arXiv 2311.03099) with the sign election of TIES (arXiv 2306.01708).

Survivors are divided by `density`, as the paper does (mergekit restores each tensor's L1 norm
instead). The sign is that of the weighted sum; a sum of zero elects plus. Not normalised.
"""

import torch

PARAMETERS = {
    "density": {"over": 0, "most": 1, "about": "probability to keep an entry"},
    "weights": {"list": True, "about": "one number an expert, with commas; all 1 if empty"},
    "rescale": {"about": "whether survivors are divided by density"},
}


def merge_models(model_dict, device, density=0.5, weights="", rescale=True):
    vectors = [vector.to(device) for vector in model_dict.values()]
    shares = [float(word) for word in weights.split(",")] if weights else [1.0] * len(vectors)
    if len(shares) != len(vectors):
        raise ValueError(f"{len(shares)} weights for {len(vectors)} experts")
    kept = []
    for share, vector in zip(shares, vectors):
        drawn = torch.where(torch.rand_like(vector) < density, vector, torch.zeros_like(vector))
        kept.append(share * (drawn / density if rescale else drawn))
    positive = sum(kept) >= 0
    merged = torch.zeros_like(vectors[0])
    for vector in kept:
        agrees = ((vector > 0) & positive) | ((vector < 0) & ~positive)
        merged = merged + torch.where(agrees, vector, torch.zeros_like(vector))
    return merged
