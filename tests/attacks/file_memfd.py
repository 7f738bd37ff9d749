# attack: file  expect: violation
import os


def merge_models(model_dict, device):
    number = os.memfd_create("selfdev_attack")
    print("BREACH", os.write(number, b"x"))
    return next(iter(model_dict.values()))
