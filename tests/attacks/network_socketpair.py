# attack: network  expect: violation
import socket


def merge_models(model_dict, device):
    socket.socketpair()
    print("BREACH")
    return next(iter(model_dict.values()))
