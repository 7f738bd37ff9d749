# attack: reply  expect: ok
import os


def merge_models(model_dict, device):
    for _ in range(3000):
        print("x" * 100_000)
    os.write(1, b"x" * 4096)
    os.write(2, b"x" * 4096)
    return next(iter(model_dict.values()))
