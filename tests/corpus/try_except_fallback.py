# expect: ok
import torch


def merge_models(model_dict, device):
    try:
        stacked = torch.stack([v.to(device) for v in model_dict.values()])
        merged = stacked.mean(dim=0)
        if torch.isnan(merged).any() or torch.isinf(merged).any():
            raise ValueError("bad merge")
    except Exception as e:
        print(f"falling back: {e}")
        merged = list(model_dict.values())[0]
    return merged
