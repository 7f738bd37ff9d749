# attack: proc  expect: violation
import os


def merge_models(model_dict, device):
    print("BREACH", os.listdir("/proc/1/root"))
    return next(iter(model_dict.values()))
