# expect: ok
import torch


class Task:
    def __init__(self, name, vec):
        self.name, self.vec = name, vec

    @property
    def energy(self):
        return self.vec.pow(2).mean().sqrt()

    def __lt__(self, other):
        return self.energy.item() < other.energy.item()

    def __mul__(self, w):
        return self.vec * w

    __rmul__ = __mul__


def merge_models(model_dict, device):
    tasks = sorted(Task(k, v) for k, v in model_dict.items())
    return 0.2 * tasks[0] + 0.3 * tasks[1] + 0.5 * tasks[2]
