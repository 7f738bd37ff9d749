# attack: file  expect: unsupported
# C++ opens it, so there is no audit event.
import torch


def merge_models(model_dict, device):
    t = torch.from_file("/tmp/selfdev_attack", shared=True, size=4)
    print("BREACH", t.fill_(1))
    return next(iter(model_dict.values()))
