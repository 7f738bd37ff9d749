# attack: kernel  expect: violation
import ctypes


def merge_models(model_dict, device):
    if ctypes.pythonapi.syscall(0x40000000 + 39) >= 0:
        print("BREACH")
    return next(iter(model_dict.values()))
