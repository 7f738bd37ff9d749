# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack([v.reshape(-1) for v in model_dict.values()])
    w = torch.tensor([[0.7, 0.2, 0.1]])
    return torch.matmul(w, stack).reshape(list(model_dict.values())[0].shape)
