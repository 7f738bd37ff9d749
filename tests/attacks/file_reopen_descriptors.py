# attack: file  expect: violation
# ruff: noqa: PT017,SIM105
# Only the descriptors 0 to 3 are open.
import os


def merge_models(model_dict, device):
    for number in range(256):
        for path in (f"/proc/self/fd/{number}", f"/dev/fd/{number}"):
            try:
                print("BREACH", os.readlink(path))
            except OSError:
                pass
        if number > 3:
            try:
                print("BREACH", os.write(number, b"x"))
            except OSError as error:
                assert error.errno == 9, error
    os.stat("/proc/self/fd")
    return next(iter(model_dict.values()))
