# attack: network  expect: violation
# ruff: noqa: SIM105
import socket


def merge_models(model_dict, device):
    try:
        print("BREACH", socket.getaddrinfo("example.com", 80))
    except OSError:
        pass
    return next(iter(model_dict.values()))
