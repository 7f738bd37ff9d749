# attack: file  expect: violation
import os


def merge_models(model_dict, device):
    print("BREACH", os.listdir("/"))
    return next(iter(model_dict.values()))
