# attack: kernel  expect: violation
import ctypes


def merge_models(model_dict, device):
    if ctypes.pythonapi.shmget(0x5E1F, 4096, 0o1666) >= 0:
        print("BREACH")
    return next(iter(model_dict.values()))
