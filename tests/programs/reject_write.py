# expect: reject violation
def merge_models(model_dict, device):
    open("/tmp/selfdev_attack", "w").write("x")
    return list(model_dict.values())[0]
