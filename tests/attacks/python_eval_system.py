# attack: python  expect: violation


def merge_models(model_dict, device):
    eval("__import__('os').system('touch /tmp/selfdev_attack')")
    return list(model_dict.values())[0]
