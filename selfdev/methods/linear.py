"""Linear: the weighted mean of the task vectors; with equal weights, a model soup (arXiv 2203.05482)."""

import torch

PARAMETERS = {
    "weights": {
        "list": True,
        "summed": "normalize",
        "about": "one number an expert, with commas; all 1 if empty",
    },
    "normalize": {"about": "whether the sum is divided by the sum of the weights"},
}


def merge_models(model_dict, device, weights="", normalize=True):
    vectors = [vector.to(device) for vector in model_dict.values()]
    shares = [float(word) for word in weights.split(",")] if weights else [1.0] * len(vectors)
    if len(shares) != len(vectors):
        raise ValueError(f"{len(shares)} weights for {len(vectors)} experts")
    merged = torch.zeros_like(vectors[0])
    for share, vector in zip(shares, vectors):
        merged = merged + share * vector
    total = sum(shares) if normalize else 1.0
    if abs(total) < 1e-8:
        raise ValueError("the weights add up to 0")
    return merged / total
