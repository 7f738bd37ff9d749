# expect: ok
import enum
import torch
from collections import namedtuple


class Mode(enum.Enum):
    LINEAR = "linear"
    SIGNED = "signed"


Part = namedtuple("Part", "vector weight mode")


def apply(part):
    if part.mode is Mode.LINEAR:
        return part.weight * part.vector
    return part.weight * part.vector.sign() * part.vector.abs().mean()


def merge_models(model_dict, device):
    modes = [Mode.LINEAR, Mode.SIGNED, Mode.LINEAR]
    parts = [Part(v, 0.3, m) for v, m in zip(model_dict.values(), modes)]
    return sum(map(apply, parts))
