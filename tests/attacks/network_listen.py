# attack: network  expect: violation
import socket


def merge_models(model_dict, device):
    one = socket.socket()
    one.bind(("0.0.0.0", 47222))
    one.listen()
    print("BREACH")
    return next(iter(model_dict.values()))
