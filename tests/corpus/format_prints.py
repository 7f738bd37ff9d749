# expect: ok
import torch


def merge_models(model_dict, device):
    print("=" * 20, "merging", len(model_dict), "models")
    out = 0
    for name, v in model_dict.items():
        print(f"{name}: shape={tuple(v.shape)} norm={v.norm():.4f} mean={v.mean().item():.3e}")
        out = out + v
    print(out)
    return out / len(model_dict)
