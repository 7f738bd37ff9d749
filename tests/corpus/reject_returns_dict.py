# expect: reject shape
import torch


def merge_models(model_dict, device):
    return {"merged": sum(model_dict.values())}
