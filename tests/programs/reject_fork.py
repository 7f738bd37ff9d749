# expect: reject violation
import os


def merge_models(model_dict, device):
    os.fork()
    return list(model_dict.values())[0]
