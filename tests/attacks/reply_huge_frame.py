# attack: reply  expect: violation
import os


def merge_models(model_dict, device):
    os.write(3, b"\xff\xff\xff\xff")
    return next(iter(model_dict.values()))
