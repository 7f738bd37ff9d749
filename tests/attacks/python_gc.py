# attack: python  expect: violation
import gc


def merge_models(model_dict, device):
    for one in gc.get_objects():
        if type(one).__name__ == "Lock":
            print("found the lock: it is closed already")
        if type(one).__name__ == "Recorder":
            one.nodes.clear()
    return next(iter(model_dict.values()))
