# attack: signal  expect: violation
import ctypes


def merge_models(model_dict, device):
    if ctypes.pythonapi.sigqueue(1, 10, None) == 0:
        print("BREACH")
    return next(iter(model_dict.values()))
