# expect: reject import
import a_package_nobody_has


def merge_models(model_dict, device):
    return list(model_dict.values())[0]
