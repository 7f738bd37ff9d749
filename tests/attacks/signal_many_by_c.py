# attack: signal  expect: violation
import ctypes


def merge_models(model_dict, device):
    for pid in range(1, 64):
        if ctypes.pythonapi.kill(pid, 15) == 0:
            print("BREACH", pid)
    return next(iter(model_dict.values()))
