# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    scale = stack.abs().max()
    soft = torch.logsumexp(stack / scale * 4, dim=0) - torch.log(torch.tensor(3.0))
    return soft * scale / 4
