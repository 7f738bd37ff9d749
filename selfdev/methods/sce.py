"""SCE (arXiv 2408.07990): select positions by variance, calculate weights by energy, erase minorities.

A model's weight in a tensor is its mean square, normalised over the models. Signs are elected by
the unweighted sum; a sum of zero elects plus. Positions at the variance threshold stay.
"""

import torch

PARAMETERS = {
    "select_topk": {
        "over": 0,
        "most": 1,
        "about": "share of positions kept: where models differ most",
    },
}


def merge_models(model_dict, device, select_topk=1.0):
    vectors = torch.stack([vector.to(device) for vector in model_dict.values()])
    if select_topk < 1.0:
        spread = vectors.var(dim=0, unbiased=False)
        count = spread.numel()
        drop = min(count - 1, count - int(select_topk * count))
        bar = spread.flatten().kthvalue(drop + 1).values
        vectors = torch.where(spread >= bar, vectors, torch.zeros_like(vectors))
    energy = torch.stack([(vector * vector).mean() for vector in vectors])
    energy = energy / energy.sum().clamp(min=1e-30)
    positive = vectors.sum(dim=0) >= 0
    total, weight = torch.zeros_like(vectors[0]), torch.zeros_like(vectors[0])
    for share, vector in zip(energy, vectors):
        agrees = ((vector > 0) & positive) | ((vector < 0) & ~positive)
        total = total + share * torch.where(agrees, vector, torch.zeros_like(vector))
        weight = weight + share * agrees
    return total / torch.where(weight == 0, torch.ones_like(weight), weight)
