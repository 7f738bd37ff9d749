# attack: file  expect: violation
import os


def merge_models(model_dict, device):
    print("BREACH", os.listdir("/"))
    return list(model_dict.values())[0]
