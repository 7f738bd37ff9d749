# attack: process  expect: violation
import subprocess


def merge_models(model_dict, device):
    try:
        subprocess.Popen(["/bin/sh", "-c", "touch /tmp/selfdev_attack; sleep 60"])
        print("BREACH")
    except OSError:
        pass
    return next(iter(model_dict.values()))
