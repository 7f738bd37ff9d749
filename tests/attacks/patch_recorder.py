# attack: patch  expect: violation
import sys


def merge_models(model_dict, device):
    recorder = sys.modules["selfdev_engine.engine.trace.recorder"]
    recorder.packed_node = lambda node: ["aten.add_.Tensor", [], {}, [24, 40], "float32"]
    return list(model_dict.values())[0]
