# attack: patch  expect: violation
# ruff: noqa: RUF059
import sys


def merge_models(model_dict, device):
    recorder = sys.modules["selfdev_engine.engine.trace.inside.recorder"]
    plain = recorder.packed_node

    def forged(node):
        op, args, kwargs, shape, dtype = plain(node)
        return [op, args, kwargs, [1 << 40], dtype]

    recorder.packed_node = forged
    return next(iter(model_dict.values()))
