# attack: network  expect: violation
import socket


def merge_models(model_dict, device):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("/tmp/selfdev.sock")
        print("BREACH")
    return next(iter(model_dict.values()))
