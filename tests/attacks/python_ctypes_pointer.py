# attack: python  expect: runtime
# A write to address 0 ends its own process by SIGSEGV.
import ctypes


def merge_models(model_dict, device):
    ctypes.memmove(0, b"BREACH", 6)
    return next(iter(model_dict.values()))
