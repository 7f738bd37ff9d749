# attack: signal  expect: violation
import os
import signal


def merge_models(model_dict, device):
    for number in (signal.SIGUSR1, signal.SIGKILL):
        try:
            os.kill(-1, number)
            print("BREACH")
        except OSError:
            pass
    return next(iter(model_dict.values()))
