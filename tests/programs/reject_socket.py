# expect: reject violation
import socket


def merge_models(model_dict, device):
    socket.socket()
    return list(model_dict.values())[0]
