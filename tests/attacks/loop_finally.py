# attack: loop  expect: timeout


def merge_models(model_dict, device):
    try:
        return list(model_dict.values())[0]
    finally:
        while True:
            pass
