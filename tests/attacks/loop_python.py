# attack: loop  expect: timeout


def merge_models(model_dict, device):
    while True:
        pass
