# expect: reject runtime
import torch


def merge_models(model_dict, device):
    return model_dict["mathematics_expert"] * 0.5
