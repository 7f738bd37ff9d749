# expect: reject shape
def merge_models(model_dict, device):
    pass
