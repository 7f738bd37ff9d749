# attack: kernel  expect: violation
import ctypes


def merge_models(model_dict, device):
    if ctypes.pythonapi.syscall(323, 0) >= 0:
        print("BREACH")
    return list(model_dict.values())[0]
