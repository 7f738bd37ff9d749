"""Keys of random draws. A key makes a draw of the tensor's size the same on every backend.

All generators are seeded from the run's seed and the tensor's name before a call. A draw's key is a
hash of the generator's state, which then moves on by one number. If a program draws from torch's
own generator only, its keys follow from the tensor's name, and one trace serves all tensors of a
shape.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch


def seed_text(seed: int, tensor_name: str) -> str:
    return f"{seed}/{tensor_name}"


def number_of(seed: str) -> int:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little") >> 1


def seed_all(seed: str) -> None:
    """Seeds the generators of random, numpy and torch."""
    number = number_of(seed)
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


def next_key(generator: torch.Generator) -> int:
    """The key of a draw now. The next draw has another key; after the same seed it is the same."""
    state = generator.get_state().numpy().tobytes()
    torch.rand(1, generator=generator)
    return int.from_bytes(hashlib.sha256(state).digest()[:7], "little")


def draw_keys(seed: str, count: int) -> list[int]:
    """The keys of the first draws after `seed_all`, if nothing else draws."""
    generator = torch.Generator()
    generator.manual_seed(number_of(seed))
    return [next_key(generator) for _ in range(count)]


def drew_otherwise(seed: str, num_draws: int) -> bool:
    """Tells whether anything but `num_draws` keys was drawn since `seed_all`. Seeds all again."""
    left = states()
    seed_all(seed)
    for _ in range(num_draws):
        torch.rand(1)
    return states() != left


def states() -> tuple[Any, ...]:
    words = np.random.get_state(legacy=False)["state"]
    numpy_state = words["key"].tobytes(), words["pos"]
    torch_state = torch.default_generator.get_state().numpy().tobytes()
    return random.getstate(), numpy_state, torch_state
