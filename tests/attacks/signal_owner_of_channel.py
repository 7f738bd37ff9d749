# attack: signal  expect: violation
# The kernel would send SIGIO to process 1.
import fcntl
import os


def merge_models(model_dict, device):
    fcntl.fcntl(3, fcntl.F_SETOWN, 1)
    fcntl.fcntl(3, fcntl.F_SETFL, os.O_ASYNC)
    print("BREACH")
    return next(iter(model_dict.values()))
