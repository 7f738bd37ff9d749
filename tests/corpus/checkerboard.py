# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    i = torch.arange(a.shape[0]).unsqueeze(1)
    j = torch.arange(a.shape[1]).unsqueeze(0)
    board = (i + j) % 2 == 0
    return torch.where(board, a, b) + 0.1 * c
