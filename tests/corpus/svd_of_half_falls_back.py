# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    try:
        values = torch.linalg.svd(a.half(), full_matrices=False)[1]
    except NotImplementedError:
        return 0.5 * a + 0.5 * b
    return a * values.sum()
