# expect: ok
import torch


def merge_models(model_dict, device):
    mean = sum(model_dict.values()) / len(model_dict)
    U, S, Vh = torch.linalg.svd(mean, full_matrices=False)
    r = max(1, S.numel() // 4)
    low = U[:, :r] @ torch.diag(S[:r]) @ Vh[:r]
    return low
