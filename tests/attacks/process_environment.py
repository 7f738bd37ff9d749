# attack: process  expect: ok
# The child inherits only what the engine sets.
import os


def merge_models(model_dict, device):
    set_by_us = ("OMP", "PYTHON", "OPENBLAS", "MKL", "LC_", "CUDA_VISIBLE", "HIP_VISIBLE", "GLIBC_TUN")
    leaked = [name for name in os.environ if not name.startswith(set_by_us)]
    if leaked:
        print("BREACH", leaked)
    return next(iter(model_dict.values()))
