# attack: process  expect: violation
import os


def merge_models(model_dict, device):
    os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    print("BREACH")
    return next(iter(model_dict.values()))
