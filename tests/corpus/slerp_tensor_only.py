# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = [v.to(device) for v in model_dict.values()]
    cos = torch.nn.functional.cosine_similarity(a.reshape(1, -1), b.reshape(1, -1)).squeeze()
    omega = torch.acos(torch.clamp(cos, -0.999, 0.999))
    so = torch.sin(omega)
    ab = torch.sin(0.5 * omega) / so * (a + b)
    return 0.7 * ab + 0.3 * c
