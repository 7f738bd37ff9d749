# attack: file  expect: violation|runtime
import tempfile


def merge_models(model_dict, device):
    print("BREACH", tempfile.mkdtemp())
    return list(model_dict.values())[0]
