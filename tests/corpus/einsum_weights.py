# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    w = torch.tensor([0.5, 0.3, 0.2], device=device)
    return torch.einsum("e,eij->ij", w, stack)
