# attack: process  expect: violation
# It tries to leave the group that is killed.
import os


def merge_models(model_dict, device):
    os.setsid()
    print("BREACH")
    return next(iter(model_dict.values()))
