# attack: python  expect: violation


def merge_models(model_dict, device):
    eval("__import__('os').system('touch /tmp/selfdev_attack')")
    return next(iter(model_dict.values()))
