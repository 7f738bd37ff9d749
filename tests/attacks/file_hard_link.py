# attack: file  expect: violation
import os


def merge_models(model_dict, device):
    os.link("/tmp/secret", "/tmp/selfdev_attack")
    return next(iter(model_dict.values()))
