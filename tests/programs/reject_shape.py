# expect: reject shape
def merge_models(model_dict, device):
    return list(model_dict.values())[0].mean()
