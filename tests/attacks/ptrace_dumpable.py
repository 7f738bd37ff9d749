# attack: ptrace  expect: violation
import ctypes


def merge_models(model_dict, device):
    if ctypes.pythonapi.prctl(4, 1, 0, 0, 0) == 0:
        print("BREACH")
    return next(iter(model_dict.values()))
