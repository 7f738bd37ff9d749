# attack: loop  expect: timeout


def merge_models(model_dict, device):
    try:
        return next(iter(model_dict.values()))
    finally:
        while True:
            pass
