# attack: kernel  expect: violation
# Shell code that uses the 32-bit gate is killed by SIGSYS.
import ctypes
import mmap
import sys


def merge_models(model_dict, device):
    if "x86_64" not in sys.implementation._multiarch:
        raise PermissionError("there is no such gate on this machine")
    code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"  # mov eax, 20 (getpid); int 0x80; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    print("BREACH", ctypes.CFUNCTYPE(ctypes.c_long)(address)())
    return next(iter(model_dict.values()))
