# attack: kernel  expect: violation
import ctypes
import os


def merge_models(model_dict, device):
    if ctypes.pythonapi.syscall(321 if os.uname().machine == "x86_64" else 280, 0, None, 0) >= 0:
        print("BREACH")
    return next(iter(model_dict.values()))
