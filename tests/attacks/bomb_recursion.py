# attack: bomb  expect: runtime


def merge_models(model_dict, device):
    def deeper():
        return deeper()

    return deeper()
