# attack: file  expect: violation
import os


def merge_models(model_dict, device):
    os.chmod("/tmp/secret", 0o000)
    return list(model_dict.values())[0]
