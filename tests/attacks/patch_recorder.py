# attack: patch  expect: unsupported
import sys


def merge_models(model_dict, device):
    recorder = sys.modules["selfdev_engine.engine.trace.inside.recorder"]
    recorder.packed_node = lambda node: ["aten.add_.Tensor", [], {}, [24, 40], "float32"]
    return next(iter(model_dict.values()))
