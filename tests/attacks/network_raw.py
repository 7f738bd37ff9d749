# attack: network  expect: violation
import socket


def merge_models(model_dict, device):
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    print("BREACH")
    return list(model_dict.values())[0]
