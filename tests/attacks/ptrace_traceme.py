# attack: ptrace  expect: violation
import ctypes


def merge_models(model_dict, device):
    if ctypes.pythonapi.ptrace(0, 0, None, None) == 0:
        print("BREACH")
    return next(iter(model_dict.values()))
