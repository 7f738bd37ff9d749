# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    x = F.prelu(a * 1e3, torch.tensor([0.1])) + F.celu(b * 1e3, 0.5)
    y = torch.special.xlog1py(c, b.abs()) + torch.deg2rad(a) + torch.rad2deg(b)
    rows = torch.stack([a, b, c]).flatten(1)[None]
    attended = F.scaled_dot_product_attention(rows, rows, rows)[0].mean(0)
    loss = F.binary_cross_entropy_with_logits(a, (b > 0).float(), pos_weight=torch.tensor(2.0))
    return 1e-3 * x + y + attended.view_as(a) * loss
