# attack: loop  expect: timeout
import signal


def merge_models(model_dict, device):
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    while True:
        pass
