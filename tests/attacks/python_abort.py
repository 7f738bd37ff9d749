# attack: python  expect: runtime
import os


def merge_models(model_dict, device):
    os.abort()
