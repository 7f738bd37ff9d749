# attack: proc  expect: violation


def merge_models(model_dict, device):
    open("/proc/self/oom_score_adj", "w").write("-1000")
    return list(model_dict.values())[0]
