# attack: file  expect: violation
# ruff: noqa: SIM105
# It fails silently, but the audit hook notes it.
import pathlib


def merge_models(model_dict, device):
    try:
        print("BREACH", pathlib.Path("/tmp/secret").read_text())
    except OSError:
        pass
    return next(iter(model_dict.values()))
