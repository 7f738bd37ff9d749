# attack: kernel  expect: violation
import ctypes


def merge_models(model_dict, device):
    room = ctypes.create_string_buffer(256)
    if ctypes.pythonapi.syscall(425, 4, room) >= 0:
        print("BREACH")
    return next(iter(model_dict.values()))
