# expect: ok
import torch


def truncate(mat, ratio=0.5):
    U, S, V = torch.svd(mat)
    keep = max(1, int(ratio * S.shape[0]))
    S = S.clone()
    S[keep:] = 0
    return U @ torch.diag(S) @ V.t()


def merge_models(model_dict, device):
    return sum(truncate(v) for v in model_dict.values()) / len(model_dict)
