# attack: reply  expect: runtime
import os


def merge_models(model_dict, device):
    os.write(3, b"\xff\x00\x00\x00half")
    os._exit(0)
    return next(iter(model_dict.values()))
