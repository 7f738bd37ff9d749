# attack: bomb  expect: timeout|memory


def merge_models(model_dict, device):
    return list(model_dict.values())[0] * float(9**9**9 % 7)
