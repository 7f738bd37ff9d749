# attack: process  expect: violation
import os


def merge_models(model_dict, device):
    os.execv("/bin/sh", ["sh", "-c", "touch /tmp/selfdev_attack"])
    return next(iter(model_dict.values()))
