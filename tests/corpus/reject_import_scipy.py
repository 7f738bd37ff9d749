# expect: reject import
import torch
from scipy_extra.spatial import procrustes


def merge_models(model_dict, device):
    return sum(model_dict.values())
