# attack: process  expect: violation
import pty


def merge_models(model_dict, device):
    pty.fork()
    print("BREACH")
    return list(model_dict.values())[0]
