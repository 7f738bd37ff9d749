# attack: python  expect: violation
import os
import sys


def merge_models(model_dict, device):
    sys.addaudithook(lambda *_: 1 / 0)
    os.system("touch /tmp/selfdev_attack")
    return next(iter(model_dict.values()))
