# attack: file  expect: violation
import os


def merge_models(model_dict, device):
    os.remove("/tmp/secret")
    return next(iter(model_dict.values()))
