# expect: ok random
import torch


def merge_models(model_dict, device):
    vs = list(model_dict.values())
    merged = torch.stack(vs).mean(0)
    spread = torch.stack(vs).std(0)
    return merged + 0.1 * spread * torch.randn_like(merged)
