# attack: file  expect: violation
import os


def merge_models(model_dict, device):
    for path in ("/tmp/selfdev_attack", "selfdev_attack", "/dev/shm/selfdev_attack"):
        try:
            os.write(os.open(path, os.O_CREAT | os.O_WRONLY), b"BREACH")
        except OSError:
            pass
    return list(model_dict.values())[0]
