# attack: file  expect: violation
# os.walk swallows the errors.
import os


def merge_models(model_dict, device):
    for folder, names, _ in os.walk("/"):
        print("BREACH", folder, names)
    return next(iter(model_dict.values()))
