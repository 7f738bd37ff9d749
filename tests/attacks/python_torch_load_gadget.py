# attack: python  expect: violation
import io
import os

import torch


def merge_models(model_dict, device):
    class Gadget:
        def __reduce__(self):
            return os.system, ("touch /tmp/selfdev_attack",)

    room = io.BytesIO()
    torch.save({"x": Gadget()}, room)
    room.seek(0)
    torch.load(room, weights_only=False)
    return next(iter(model_dict.values()))
