# expect: reject syntax
def merge_models(model_dict, device)
    return 0
