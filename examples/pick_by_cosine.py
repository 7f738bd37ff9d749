import torch.nn.functional as F


def merge_models(model_dict, device):
    """Python decides by a value of the weights: whoever points away from the first is left out."""
    first, *others = (vector.to(device) for vector in model_dict.values())
    merged, count = first.clone(), 1
    for other in others:
        cosine = F.cosine_similarity(first.flatten(), other.flatten(), dim=0).item()
        if cosine > -0.05:
            merged += other
            count += 1
    return merged / count * 1.2
