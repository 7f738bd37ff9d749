# attack: reply  expect: violation
import os


def merge_models(model_dict, device):
    os.write(3, b"\x04\x00\x00\x00null")
    return next(iter(model_dict.values()))
