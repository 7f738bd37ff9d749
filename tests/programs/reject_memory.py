# expect: reject memory
import torch


def merge_models(model_dict, device):
    hoard = []
    while True:
        hoard.append(bytearray(1 << 26))
