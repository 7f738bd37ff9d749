# attack: signal  expect: violation
import os
import signal


def merge_models(model_dict, device):
    os.killpg(0, signal.SIGUSR2)
    print("BREACH")
    return next(iter(model_dict.values()))
