# attack: ptrace  expect: violation
import ctypes


def merge_models(model_dict, device):
    for pid in range(1, 64):
        if ctypes.pythonapi.ptrace(16, pid, None, None) == 0:
            print("BREACH", pid)
    return next(iter(model_dict.values()))
