# attack: kernel  expect: violation
import ctypes
import sys


def merge_models(model_dict, device):
    if (
        ctypes.pythonapi.syscall(
            321 if "x86_64" in sys.implementation._multiarch else 280, 0, None, 0
        )
        >= 0
    ):
        print("BREACH")
    return next(iter(model_dict.values()))
