# attack: file  expect: violation
import os


def merge_models(model_dict, device):
    print("BREACH", os.read(os.open("/etc/passwd", os.O_RDONLY), 99))
    return list(model_dict.values())[0]
