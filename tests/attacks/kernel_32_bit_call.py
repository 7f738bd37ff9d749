# attack: kernel  expect: violation|runtime
# shell code by the old gate: killed by SIGSYS
import ctypes
import mmap
import os


def merge_models(model_dict, device):
    if os.uname().machine != "x86_64":
        os.getcwd()
    code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"  # mov eax, 20 (getpid); int 0x80; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    print("BREACH", ctypes.CFUNCTYPE(ctypes.c_long)(address)())
    return next(iter(model_dict.values()))
