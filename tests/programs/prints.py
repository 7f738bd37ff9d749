# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = ws = [w.detach().to(device) for w in model_dict.values()]
    print("norms", [f"{w.norm():.4f}" for w in ws])
    print(a)
    return 0.5 * a + 0.5 * b
