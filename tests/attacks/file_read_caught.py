# attack: file  expect: violation
# fails silently: the audit hook tells
import pathlib


def merge_models(model_dict, device):
    try:
        print("BREACH", pathlib.Path("/tmp/secret").read_text())
    except OSError:
        pass
    return list(model_dict.values())[0]
