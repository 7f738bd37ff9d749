# expect: reject violation
import os
import signal


def merge_models(model_dict, device):
    os.kill(os.getppid() or 2**22, signal.SIGTERM)
    return list(model_dict.values())[0]
