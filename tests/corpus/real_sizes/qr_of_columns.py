import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    basis, _ = torch.linalg.qr(a[:, : a.shape[0] // 4])
    return b - basis @ (basis.t() @ b) + 0.3 * c
