# attack: reply  expect: runtime
import os


def merge_models(model_dict, device):
    raise RuntimeError("\x1b]0;owned\x07\x1b[2J\ud800\x00\u202e" * 50)
    return list(model_dict.values())[0]
