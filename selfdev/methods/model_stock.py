"""Model Stock (arXiv 2403.19522): the mean task vector, shortened by how far the experts disagree."""

import torch


def merge_models(model_dict, device):
    vectors = [vector.to(device) for vector in model_dict.values()]
    count = len(vectors)
    mean = sum(vectors) / count
    if count < 2:
        return mean
    cosines = []
    for i in range(count):
        for j in range(i):
            sizes = vectors[i].norm() * vectors[j].norm()
            cosines.append((vectors[i] * vectors[j]).sum() / sizes.clamp(min=1e-12))
    cosine = torch.stack(cosines).mean()
    share = count * cosine / (1 + (count - 1) * cosine)
    return share * mean
