# attack: python  expect: ok|runtime|unsupported|violation|shape
# walks up into the tracer's own frames: spoils only its own reply
import sys


def merge_models(model_dict, device):
    frame = sys._getframe()
    while frame:
        for value in list(frame.f_locals.values()):
            if isinstance(value, dict) and "code" in value:
                value["shape"] = [1 << 20, 1 << 20]
            if hasattr(value, "recorder"):
                value.recorder.nodes.clear()
        frame = frame.f_back
    return list(model_dict.values())[0]
