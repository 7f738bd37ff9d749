import torch
import torch.nn.functional as F


def merge_models(model_dict, device):
    mean = sum(model_dict.values()) / len(model_dict)
    image = mean[None, None]
    patches = F.unfold(image, kernel_size=4, stride=4)
    patches = patches - 0.5 * patches.mean(1, keepdim=True)
    return F.fold(patches, mean.shape, kernel_size=4, stride=4)[0, 0]
