# expect: ok
import torch


def merge_models(model_dict, device):
    """Later rows lean to the second expert."""
    a, b, c = model_dict.values()
    n = a.shape[0]
    ramp = torch.linspace(0, 1, n, device=device)
    if a.dim() == 2:
        ramp = ramp.unsqueeze(1)
    return (1 - ramp) * a + ramp * b
