# attack: python  expect: unsupported
# The reply is JSON, so nobody unpickles it.
import os

import torch


def merge_models(model_dict, device):
    class Gadget(torch.Tensor):
        def __reduce_ex__(self, protocol):
            return os.system, ("touch /tmp/selfdev_attack",)

    return Gadget(24, 40)
