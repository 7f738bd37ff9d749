# attack: bomb  expect: unsupported|timeout|violation
# The graph never ends.


def merge_models(model_dict, device):
    t = next(iter(model_dict.values()))
    for i in range(10**9):
        t = t + i
    return t
