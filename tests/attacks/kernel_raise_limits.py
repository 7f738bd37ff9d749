# attack: kernel  expect: violation
import resource


def merge_models(model_dict, device):
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    print("BREACH")
    return next(iter(model_dict.values()))
