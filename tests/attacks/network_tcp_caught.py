# attack: network  expect: violation
import socket


def merge_models(model_dict, device):
    try:
        socket.create_connection(("127.0.0.1", 47111), timeout=0.2)
        print("BREACH")
    except OSError:
        pass
    return next(iter(model_dict.values()))
