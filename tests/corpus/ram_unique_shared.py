# expect: ok
import torch


def merge_models(model_dict, device):
    tensors = torch.stack(list(model_dict.values()))
    active = tensors.abs() > 1e-5
    count = active.sum(dim=0)
    total = torch.where(active, tensors, torch.zeros_like(tensors)).sum(dim=0)
    shared = count > 1
    result = torch.zeros_like(total)
    result[shared] = total[shared] / count[shared].float()
    unique = count == 1
    result[unique] = 1.1 * total[unique]
    return result
