# attack: proc  expect: violation
# ruff: noqa: SIM115


def merge_models(model_dict, device):
    open("/proc/self/oom_score_adj", "w").write("-1000")
    return next(iter(model_dict.values()))
