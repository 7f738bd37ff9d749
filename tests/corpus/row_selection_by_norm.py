# expect: ok
import torch


def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    row_norm = stack.norm(dim=2)
    winner = row_norm.argmax(dim=0)
    mask = torch.nn.functional.one_hot(winner, num_classes=stack.shape[0]).permute(1, 0)
    return (stack * mask.unsqueeze(-1).float()).sum(0)
