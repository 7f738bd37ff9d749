# attack: reply  expect: violation
import os


def merge_models(model_dict, device):
    while True:
        os.write(3, bytes(65536))
    return next(iter(model_dict.values()))
