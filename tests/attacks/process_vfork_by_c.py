# attack: process  expect: violation
import ctypes


def merge_models(model_dict, device):
    if ctypes.pythonapi.fork() >= 0:
        print("BREACH")
    return next(iter(model_dict.values()))
