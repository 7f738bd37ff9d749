# attack: process  expect: violation


def merge_models(model_dict, device):
    print("BREACH", open("/proc/1/cmdline").read())
    return list(model_dict.values())[0]
