import torch


def merge_models(model_dict, device):
    vectors = torch.stack(list(model_dict.values()))
    merged = vectors.sum(0)
    norms = vectors.flatten(1).norm(dim=1).square()
    for _ in range(3):
        gradient = torch.zeros_like(merged)
        for vector, size in zip(vectors, norms):
            gradient += ((merged - vector) @ vector.t()) @ vector / size
        merged = merged - 0.1 * gradient / len(vectors)
    return merged
