# attack: proc  expect: violation
import os


def merge_models(model_dict, device):
    print("BREACH", os.readlink("/proc/self/exe"))
    return list(model_dict.values())[0]
