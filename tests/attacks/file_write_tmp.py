# attack: file  expect: violation
# ruff: noqa: SIM115


def merge_models(model_dict, device):
    open("/tmp/selfdev_attack", "w").write("BREACH")
    return next(iter(model_dict.values()))
