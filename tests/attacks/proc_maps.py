# attack: proc  expect: violation


def merge_models(model_dict, device):
    print("BREACH", open("/proc/self/maps").read())
    return list(model_dict.values())[0]
