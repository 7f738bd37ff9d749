# expect: ok
import torch


def merge_models(model_dict, device):
    mean = sum(model_dict.values()) / len(model_dict)
    spec = torch.fft.rfft(mean, dim=-1)
    keep = spec.shape[-1] // 2
    spec[..., keep:] = 0
    return torch.fft.irfft(spec, n=mean.shape[-1], dim=-1)
