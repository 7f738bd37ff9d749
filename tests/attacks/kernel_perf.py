# attack: kernel  expect: violation
import ctypes


def merge_models(model_dict, device):
    room = ctypes.create_string_buffer(128)
    if ctypes.pythonapi.syscall(298, room, 0, -1, -1, 0) >= 0:
        print("BREACH")
    return next(iter(model_dict.values()))
