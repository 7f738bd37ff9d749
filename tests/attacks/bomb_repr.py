# attack: bomb  expect: runtime|memory|timeout|ok


def merge_models(model_dict, device):
    nested = []
    for _ in range(10**5):
        nested = [nested]
    print(nested)
    return list(model_dict.values())[0]
