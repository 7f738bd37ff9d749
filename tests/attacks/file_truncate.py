# attack: file  expect: violation
import os


def merge_models(model_dict, device):
    os.truncate("/tmp/secret", 0)
    return next(iter(model_dict.values()))
