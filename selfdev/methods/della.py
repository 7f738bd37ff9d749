"""DELLA (arXiv 2406.11617): drop entries at random, small ones more often; elect signs, average.

Within a row the probability to keep rises linearly with the rank of the magnitude, from
`density - epsilon` to `density + epsilon`. The tensor's L1 norm is restored. Ranks are those of a
stable sort, in float32. A sum of zero elects plus.
"""

import torch

PARAMETERS = {
    "density": {"over": 0, "most": 1, "about": "mean probability to keep an entry"},
    "epsilon": {
        "least": 0,
        "most": 0.5,
        "around": "density",
        "about": "how far the probability varies",
    },
    "weights": {"list": True, "about": "one number an expert, with commas; all 1 if empty"},
    "scale": {"about": "factor of the merged task vector"},
}


def merge_models(model_dict, device, density=0.5, epsilon=0.15, weights="", scale=1.0):
    vectors = [vector.to(device) for vector in model_dict.values()]
    shares = [float(word) for word in weights.split(",")] if weights else [1.0] * len(vectors)
    if len(shares) != len(vectors):
        raise ValueError(f"{len(shares)} weights for {len(vectors)} experts")
    pruned = []
    for share, vector in zip(shares, vectors):
        order = torch.argsort(vector.abs(), dim=-1, stable=True)
        rank = torch.argsort(order, dim=-1, stable=True).float()
        last = max(1, vector.shape[-1] - 1)
        chance = density - epsilon + 2 * epsilon * rank / last
        kept = torch.where(torch.rand_like(vector) < chance, vector, torch.zeros_like(vector))
        size = kept.abs().sum()
        pruned.append(share * kept * vector.abs().sum() / torch.where(size == 0, 1.0, size))
    positive = sum(pruned) >= 0
    total, voters = torch.zeros_like(vectors[0]), torch.zeros_like(vectors[0])
    for share, vector in zip(shares, pruned):
        agrees = ((vector > 0) & positive) | ((vector < 0) & ~positive)
        total = total + torch.where(agrees, vector, torch.zeros_like(vector))
        voters = voters + share * agrees
    return scale * total / torch.where(voters == 0, torch.ones_like(voters), voters)
