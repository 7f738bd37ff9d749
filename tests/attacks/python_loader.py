# attack: python  expect: violation


def merge_models(model_dict, device):
    for one in object.__subclasses__():
        if one.__name__ == "FileLoader":
            print("BREACH", one("x", "/tmp/secret").get_data("/tmp/secret"))
    return next(iter(model_dict.values()))
