import torch


def merge_models(model_dict, device):
    """The middle one of the experts, entry by entry, drawn out a little."""
    stacked = torch.stack([vector.to(device) for vector in model_dict.values()])
    return 1.5 * torch.median(stacked, dim=0).values
