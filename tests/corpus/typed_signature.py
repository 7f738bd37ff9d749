# expect: ok
from __future__ import annotations

from typing import Callable, Iterable, Optional

import torch
from torch import Tensor


def fold(f: Callable[[Tensor, Tensor], Tensor], xs: Iterable[Tensor]) -> Optional[Tensor]:
    acc: Optional[Tensor] = None
    for x in xs:
        acc = x if acc is None else f(acc, x)
    return acc


def merge_models(model_dict: dict[str, Tensor], device: torch.device) -> Tensor:
    result = fold(lambda m, w: 0.6 * m + 0.4 * w, model_dict.values())
    assert result is not None
    return result
