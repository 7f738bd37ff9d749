# attack: python  expect: violation
import ctypes


def merge_models(model_dict, device):
    if ctypes.CDLL(None).system(b"touch /tmp/selfdev_attack") == 0:
        print("BREACH")
    return next(iter(model_dict.values()))
