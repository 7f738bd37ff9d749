# attack: process  expect: violation
# It is bounded, in case it works.
import os
import time


def merge_models(model_dict, device):
    for _ in range(64):
        try:
            if os.fork() == 0:
                time.sleep(30)
                os._exit(0)
            print("BREACH")
        except OSError:
            pass
    return next(iter(model_dict.values()))
