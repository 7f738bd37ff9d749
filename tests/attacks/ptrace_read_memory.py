# attack: ptrace  expect: violation
import ctypes


def merge_models(model_dict, device):
    class Span(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]

    room = ctypes.create_string_buffer(64)
    mine = Span(ctypes.addressof(room), 64)
    for pid in range(1, 64):
        if (
            ctypes.pythonapi.process_vm_readv(pid, ctypes.byref(mine), 1, ctypes.byref(mine), 1, 0)
            > 0
        ):
            print("BREACH", pid)
    return next(iter(model_dict.values()))
