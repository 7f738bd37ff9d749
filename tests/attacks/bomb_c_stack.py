# attack: bomb  expect: runtime
# It ends its own process by SIGSEGV.
import sys


def merge_models(model_dict, device):
    sys.setrecursionlimit(10**9)

    def deeper(x):
        return sorted([x], key=deeper)

    return deeper(1)
