# attack: kernel  expect: violation
# Neither seccomp nor no_new_privs can be taken back.
import ctypes


def merge_models(model_dict, device):
    if ctypes.pythonapi.prctl(22, 0, 0, 0, 0) == 0 or ctypes.pythonapi.prctl(38, 0, 0, 0, 0) == 0:
        print("BREACH")
    return next(iter(model_dict.values()))
