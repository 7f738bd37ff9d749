# expect: ok
import torch


def merge_models(model_dict, device):
    s = torch.stack([m.to(device) for m in model_dict.values()])
    energy = torch.einsum("eij,eij->e", s, s)
    share = energy / energy.sum()
    return torch.einsum("eij,e->ij", s, share)
