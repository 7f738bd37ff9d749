# attack: python  expect: violation
import os
import pickle


def merge_models(model_dict, device):
    class Gadget:
        def __reduce__(self):
            return os.system, ("touch /tmp/selfdev_attack",)

    pickle.loads(pickle.dumps(Gadget()))
    return next(iter(model_dict.values()))
