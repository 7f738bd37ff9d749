# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    A = torch.stack([a.flatten(), b.flatten()], dim=1)
    sol = torch.linalg.lstsq(A, c.flatten().unsqueeze(1)).solution.flatten()
    return sol[0] * a + sol[1] * b + 0.5 * c
