# expect: reject runtime
import torch


def merge_models(model_dict, device):
    vs = [v.to("cuda:0") for v in model_dict.values()]
    return sum(vs) / len(vs)
