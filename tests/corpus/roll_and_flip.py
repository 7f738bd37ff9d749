# expect: ok
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    shifted = torch.roll(b, shifts=1, dims=0)
    return 0.6 * a + 0.2 * shifted + 0.2 * torch.flip(c, dims=[1])
