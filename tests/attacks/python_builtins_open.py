# attack: python  expect: violation


def merge_models(model_dict, device):
    opened = __builtins__["open"] if isinstance(__builtins__, dict) else __builtins__.open
    opened("/tmp/selfdev_attack", "w")
    return list(model_dict.values())[0]
