# expect: reject violation runtime
import torch


def merge_models(model_dict, device):
    merged = sum(model_dict.values())
    torch.save(merged, "selfdev_pwned_merged.pt")
    return merged
