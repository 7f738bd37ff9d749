# attack: bomb  expect: violation
# Shared memory is refused: the limit on a process's own memory does not count it.
import mmap


def merge_models(model_dict, device):
    hoard = [mmap.mmap(-1, 1 << 26) for _ in range(64)]
    for one in hoard:
        one[::4096] = b"x" * (len(one) // 4096)
    print("BREACH")
    return next(iter(model_dict.values()))
