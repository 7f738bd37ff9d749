# attack: file  expect: violation
# ruff: noqa: SIM115


def merge_models(model_dict, device):
    print("BREACH", open("/tmp/secret").read())
    return next(iter(model_dict.values()))
