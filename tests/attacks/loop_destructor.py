# attack: loop  expect: timeout
import torch


def merge_models(model_dict, device):
    class Forever:
        def __del__(self):
            while True:
                pass

    model_dict["x"].keep = Forever()
    return torch.zeros(24, 40)
