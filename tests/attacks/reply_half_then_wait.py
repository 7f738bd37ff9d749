# attack: reply  expect: timeout
import os
import time


def merge_models(model_dict, device):
    os.write(3, b"\xff\x00\x00\x00half")
    time.sleep(60)
    return next(iter(model_dict.values()))
