# attack: python  expect: runtime
# a write to address 0: SIGSEGV of its own process
import ctypes


def merge_models(model_dict, device):
    ctypes.memmove(0, b"BREACH", 6)
    return next(iter(model_dict.values()))
