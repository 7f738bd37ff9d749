# attack: patch  expect: ok
# ruff: noqa: SIM105
# the hook is for messages; the wall is below Python
import os
import sys


def merge_models(model_dict, device):
    attempts = sys.modules["selfdev_engine.engine.trace.inside.attempts"]
    attempts.WATCHED = frozenset()
    try:
        os.system("touch /tmp/selfdev_attack")
    except OSError:
        pass
    return next(iter(model_dict.values()))
