# attack: file  expect: violation
import os


def merge_models(model_dict, device):
    os.symlink("/etc/passwd", "/tmp/selfdev_attack")
    return next(iter(model_dict.values()))
