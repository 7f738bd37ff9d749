# attack: process  expect: violation
import ctypes


def merge_models(model_dict, device):
    if ctypes.pythonapi.unshare(0x10000000) == 0:
        print("BREACH")
    return next(iter(model_dict.values()))
