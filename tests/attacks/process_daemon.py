# attack: process  expect: violation
# A daemon would survive the kill of its group.
import ctypes
import time


def merge_models(model_dict, device):
    if ctypes.pythonapi.daemon(0, 0) >= 0:
        time.sleep(30)
    return next(iter(model_dict.values()))
