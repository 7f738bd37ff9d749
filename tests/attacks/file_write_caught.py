# attack: file  expect: violation
# ruff: noqa: SIM105
import os


def merge_models(model_dict, device):
    for path in ("/tmp/selfdev_attack", "selfdev_attack", "/dev/shm/selfdev_attack"):
        try:
            os.write(os.open(path, os.O_CREAT | os.O_WRONLY), b"BREACH")
        except OSError:
            pass
    return next(iter(model_dict.values()))
