# attack: reply  expect: timeout
import os
import time


def merge_models(model_dict, device):
    os.write(3, b"\xff\xff\x00\x00")
    while True:
        os.write(3, b" ")
        time.sleep(0.02)
    return next(iter(model_dict.values()))
