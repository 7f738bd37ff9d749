# attack: signal  expect: violation
import os
import signal


def merge_models(model_dict, device):
    parent = os.getppid()
    os.kill(parent if parent > 0 else 1, signal.SIGKILL)
    return next(iter(model_dict.values()))
