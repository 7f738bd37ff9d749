# attack: process  expect: violation
import os


def merge_models(model_dict, device):
    os.setuid(0)
    print("BREACH")
    return next(iter(model_dict.values()))
