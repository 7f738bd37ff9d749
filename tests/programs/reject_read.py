# expect: reject violation
def merge_models(model_dict, device):
    open("/etc/passwd").read()
    return list(model_dict.values())[0]
