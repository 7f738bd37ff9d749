# attack: proc  expect: violation
# ruff: noqa: SIM115


def merge_models(model_dict, device):
    for pid in ("self", "1", "2", "3"):
        try:
            open(f"/proc/{pid}/mem", "r+b")
            print("BREACH")
        except OSError:
            pass
    return next(iter(model_dict.values()))
