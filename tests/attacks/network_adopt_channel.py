# attack: network  expect: violation
# The channel is a socket, but no descriptor may be passed over it.
import socket


def merge_models(model_dict, device):
    one = socket.socket(fileno=3)
    socket.send_fds(one, [b"x"], [0])
    print("BREACH")
    return next(iter(model_dict.values()))
