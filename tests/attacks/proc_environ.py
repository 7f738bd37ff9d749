# attack: proc  expect: violation
# ruff: noqa: SIM105,SIM115


def merge_models(model_dict, device):
    for pid in ("self", "1", "2", "3"):
        try:
            print("BREACH", open(f"/proc/{pid}/environ").read())
        except OSError:
            pass
    return next(iter(model_dict.values()))
