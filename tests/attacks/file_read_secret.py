# attack: file  expect: violation


def merge_models(model_dict, device):
    print("BREACH", open("/tmp/secret").read())
    return list(model_dict.values())[0]
