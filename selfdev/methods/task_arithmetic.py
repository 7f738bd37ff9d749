"""Task arithmetic (arXiv 2212.04089): a weighted sum of the task vectors."""

import torch

PARAMETERS = {
    "weights": {"list": True, "about": "one number an expert, with commas; all 1 if empty"},
    "scale": {"about": "factor of the merged task vector"},
}


def merge_models(model_dict, device, weights="", scale=1.0):
    vectors = [vector.to(device) for vector in model_dict.values()]
    shares = [float(word) for word in weights.split(",")] if weights else [1.0] * len(vectors)
    if len(shares) != len(vectors):
        raise ValueError(f"{len(shares)} weights for {len(vectors)} experts")
    merged = torch.zeros_like(vectors[0])
    for share, vector in zip(shares, vectors):
        merged = merged + share * vector
    return scale * merged
