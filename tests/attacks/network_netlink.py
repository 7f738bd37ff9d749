# attack: network  expect: violation
import socket


def merge_models(model_dict, device):
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    print("BREACH")
    return next(iter(model_dict.values()))
