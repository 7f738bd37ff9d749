# attack: process  expect: violation
import os


def merge_models(model_dict, device):
    os.sched_setaffinity(0, {0})
    print("BREACH")
    return list(model_dict.values())[0]
