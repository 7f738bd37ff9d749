# attack: file  expect: violation
# The file is in memory at first, then on disk.
import tempfile


def merge_models(model_dict, device):
    with tempfile.SpooledTemporaryFile(max_size=1) as file:
        file.write(b"more than one byte")
        file.flush()
        print("BREACH")
    return next(iter(model_dict.values()))
