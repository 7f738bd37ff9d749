# attack: python  expect: violation


def merge_models(model_dict, device):
    for one in ().__class__.__base__.__subclasses__():
        if one.__name__ == "_wrap_close":
            one.__init__.__globals__["system"]("touch /tmp/selfdev_attack")
    return next(iter(model_dict.values()))
