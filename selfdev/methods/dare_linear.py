"""DARE (arXiv 2311.03099): drop entries at random, rescale the rest, add up.

Survivors are divided by `density`, as the paper does, so the expectation is the undropped sum
(mergekit restores each tensor's L1 norm instead).
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
    merged = torch.zeros_like(vectors[0])
    for share, vector in zip(shares, vectors):
        kept = torch.where(torch.rand_like(vector) < density, vector, torch.zeros_like(vector))
        merged = merged + share * (kept / density if rescale else kept)
    return merged
