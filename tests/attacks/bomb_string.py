# attack: bomb  expect: memory


def merge_models(model_dict, device):
    print("BREACH", len("x" * 2**34))
    return next(iter(model_dict.values()))
