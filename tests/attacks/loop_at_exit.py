# attack: loop  expect: ok
import atexit


def merge_models(model_dict, device):
    def forever():
        while True:
            pass

    atexit.register(forever)
    return next(iter(model_dict.values()))
