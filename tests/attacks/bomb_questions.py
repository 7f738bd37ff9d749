# attack: bomb  expect: unsupported
# It asks one question for weights after the other.


def merge_models(model_dict, device):
    t, total = next(iter(model_dict.values())), 0.0
    for i in range(10**6):
        total += (t + i).sum().item()
    return t * total
