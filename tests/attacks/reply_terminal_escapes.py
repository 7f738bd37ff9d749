# attack: reply  expect: runtime


def merge_models(model_dict, device):
    raise RuntimeError("\x1b]0;owned\x07\x1b[2J\ud800\x00\u202e" * 50)
    return next(iter(model_dict.values()))
