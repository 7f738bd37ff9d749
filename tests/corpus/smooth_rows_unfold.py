# expect: ok
import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    mean = torch.stack(list(model_dict.values())).mean(0)
    pooled = F.avg_pool1d(mean.unsqueeze(0), kernel_size=3, stride=1, padding=1).squeeze(0)
    return 0.7 * mean + 0.3 * pooled
