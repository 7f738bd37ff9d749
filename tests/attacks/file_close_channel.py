# attack: file  expect: violation
import os


def merge_models(model_dict, device):
    os.close(3)
    print("BREACH")
    return next(iter(model_dict.values()))
