# attack: patch  expect: runtime
# Nothing is ever sent.
import os


def merge_models(model_dict, device):
    os.write = lambda number, data: len(data)
    return next(iter(model_dict.values()))
