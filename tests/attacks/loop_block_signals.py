# attack: loop  expect: timeout
import signal


def merge_models(model_dict, device):
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True:
        pass
