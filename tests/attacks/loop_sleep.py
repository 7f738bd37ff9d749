# attack: loop  expect: timeout
import time


def merge_models(model_dict, device):
    time.sleep(3600)
