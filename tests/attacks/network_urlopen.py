# attack: network  expect: violation
import urllib.request


def merge_models(model_dict, device):
    try:
        urllib.request.urlopen("http://127.0.0.1:47111/", timeout=0.2)
        print("BREACH")
    except OSError:
        pass
    return next(iter(model_dict.values()))
