# attack: file  expect: violation
import tempfile


def merge_models(model_dict, device):
    with tempfile.NamedTemporaryFile(delete=False) as file:
        print("BREACH", file.name)
    return next(iter(model_dict.values()))
