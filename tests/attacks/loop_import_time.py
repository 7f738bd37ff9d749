# attack: loop  expect: timeout
while True:
    pass


def merge_models(model_dict, device):
    return None
