# attack: loop  expect: timeout
# ruff: noqa: SIM105
import signal


def merge_models(model_dict, device):
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    while True:
        pass
