# attack: python  expect: runtime|violation
import os


def merge_models(model_dict, device):
    os.abort()
