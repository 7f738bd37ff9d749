# attack: network  expect: violation|runtime|import
import torch

from datetime import timedelta


def merge_models(model_dict, device):
    torch.distributed.TCPStore("127.0.0.1", 47111, 1, True, timedelta(seconds=0.2))
    print("BREACH")
    return list(model_dict.values())[0]
