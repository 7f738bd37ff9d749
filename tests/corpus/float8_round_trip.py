# expect: ok
# tier: eager
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    return (a * 100).to(torch.float8_e4m3fn).float() / 100 + b
