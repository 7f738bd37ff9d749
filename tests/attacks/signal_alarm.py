# attack: signal  expect: violation|ok|runtime
import signal


def merge_models(model_dict, device):
    signal.alarm(1)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    return list(model_dict.values())[0]
