# attack: loop  expect: timeout
import re


def merge_models(model_dict, device):
    print("BREACH", re.match(r"(a+)+$", "a" * 64 + "b"))
