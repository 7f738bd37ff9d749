# attack: patch  expect: ok
# ruff: noqa: SIM105
# The hook is for messages. The wall is below Python.
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
