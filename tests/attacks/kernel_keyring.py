# attack: kernel  expect: violation
import ctypes


def merge_models(model_dict, device):
    if ctypes.pythonapi.syscall(250, 0, -3, 1) > 0:
        print("BREACH")
    return next(iter(model_dict.values()))
