# expect: reject runtime
def merge_models(model_dict, device):
    return weights[0]
