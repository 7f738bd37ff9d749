# attack: process  expect: violation
import ctypes


def merge_models(model_dict, device):
    if ctypes.pythonapi.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0:
        print("BREACH")
    return next(iter(model_dict.values()))
