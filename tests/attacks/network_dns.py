# attack: network  expect: violation
import socket


def merge_models(model_dict, device):
    try:
        print("BREACH", socket.getaddrinfo("example.com", 80))
    except OSError:
        pass
    return list(model_dict.values())[0]
