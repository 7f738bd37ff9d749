# expect: ok
import torch


def merge_models(model_dict, device):
    info = {
        name: {"tensor": t, "norm": t.norm(), "mean": t.mean(), "max": t.abs().max()}
        for name, t in model_dict.items()
    }
    total = sum(d["norm"] for d in info.values())
    merged = torch.zeros_like(next(iter(info.values()))["tensor"])
    for name, d in info.items():
        merged += (d["norm"] / total) * (d["tensor"] - d["mean"]) / (1 + d["max"])
    return merged
