# attack: loop  expect: timeout
import threading


def merge_models(model_dict, device):
    threading.Lock().acquire() and threading.Event().wait()
