# attack: bomb  expect: timeout|memory


def merge_models(model_dict, device):
    return next(iter(model_dict.values())) * float(9**9**9 % 7)
