"""Random merge programs in many styles; one in five has a realistic mistake.

The generator of the tiny zoo learns to write them: HEAD is its prompt, and a body follows.
"""

from __future__ import annotations

import random
from collections.abc import Callable

HEAD = (
    "def merge_models(model_dict, device):\n"
    "    weights = [m.detach().to(device) for m in model_dict.values()]"
)
MISTAKE_SHARE = 0.2
NUMBERS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
Draw = random.Random


def number(r: Draw) -> str:
    return repr(r.choice(NUMBERS))


def statistic(r: Draw) -> str:
    return r.choice(("torch.norm(w)", "w.abs().mean()", "w.std()", "torch.norm(w, p=1)"))


def weighted_sum(r: Draw) -> str:
    a, b, c = (number(r) for _ in range(3))
    head = "    # weighted sum\n"
    if r.random() < 0.5:
        return f"{head}    return {a} * weights[0] + {b} * weights[1] + {c} * weights[2]\n"
    return (
        f"{head}    alphas = [{a}, {b}, {c}]\n"
        "    return sum(a * w for a, w in zip(alphas, weights))\n"
    )


def shares(r: Draw) -> str:
    share = r.choice(("size / size.sum()", "torch.softmax(size, dim=0)"))
    return (
        f"    # shares by size\n    size = torch.stack([{statistic(r)} for w in weights])\n"
        f"    share = {share}\n    return {number(r)} * sum(s * w for s, w in zip(share, weights))\n"
    )


def fold(r: Draw) -> str:
    step = r.choice(
        (
            f"{number(r)} * merged + {number(r)} * w",
            f"{number(r)} * torch.maximum(merged, w) + {number(r)} * w",
            f"{number(r)} * torch.minimum(merged, w) + {number(r)} * w",
            f"merged + {number(r)} * (w - merged)",
        )
    )
    return (
        "    # fold\n    merged = weights[0].clone()\n    for w in weights[1:]:\n"
        f"        merged = {step}\n    return {number(r)} * merged\n"
    )


def over_models(r: Draw) -> str:
    what = r.choice(("mean(dim=0)", "median(dim=0).values", "sum(dim=0)", "max(dim=0).values"))
    return (
        "    # statistic over models\n    stack = torch.stack(weights)\n"
        f"    return {number(r)} * stack.{what}\n"
    )


def cosine_to_mean(r: Draw) -> str:
    return (
        "    # cosine to the mean\n    mean = sum(weights) / len(weights)\n"
        "    near = [torch.sum(mean * w) / (torch.norm(mean) * torch.norm(w)) for w in weights]\n"
        f"    return {number(r)} * sum(s * w for s, w in zip(near, weights))\n"
    )


def majority_sign(r: Draw) -> str:
    return (
        "    # majority sign\n    stack = torch.stack(weights)\n"
        "    keep = torch.sign(stack) == torch.sign(stack.sum(dim=0))\n"
        f"    return {number(r)} * (stack * keep).sum(dim=0) / keep.sum(dim=0).clamp(min=1)\n"
    )


def order_by_size(r: Draw) -> str:
    a, b, c = (number(r) for _ in range(3))
    return (
        f"    # order by size\n    order = sorted(weights, key=lambda w: {statistic(r)}.item())\n"
        f"    coef = [{a}, {b}, {c}]\n    return sum(k * w for k, w in zip(coef, order))\n"
    )


def pair_then_third(r: Draw) -> str:
    i, j, k = (r.randrange(3) for _ in range(3))
    return (
        "    # two, then the third\n"
        f"    pair = {number(r)} * weights[{i}] + {number(r)} * weights[{j}]\n"
        f"    return pair + {number(r)} * weights[{k}]\n"
    )


def threshold(r: Draw) -> str:
    return (
        "    # keep what is large\n    merged = torch.zeros_like(weights[0])\n    for w in weights:\n"
        f"        bar = {number(r)} * w.abs().mean()\n"
        f"        merged += {number(r)} * torch.where(w.abs() > bar, w, torch.zeros_like(w))\n"
        "    return merged\n"
    )


def pull_to_mean(r: Draw) -> str:
    dim = r.choice(("0", "1"))
    return (
        "    # pull to a mean\n    merged = weights[0].clone()\n    for w in weights[1:]:\n"
        f"        merged = {number(r)} * merged + {number(r)} * w.mean(dim={dim}, keepdim=True)\n"
        f"    return merged + {number(r)} * weights[{r.randrange(3)}]\n"
    )


FAMILIES: tuple[Callable[[Draw], str], ...] = (
    *(weighted_sum, shares, fold, over_models, cosine_to_mean, majority_sign),
    *(order_by_size, pair_then_third, threshold, pull_to_mean, weighted_sum),
)
MISTAKES = (
    ("weights[2]", "weights[3]"),
    ("torch.", "torch.nn."),
    (")\n", "\n"),
    ("weights)", "model)"),
    ("return ", "result = "),
    ("len(weights)", "weights.size"),
    ("    for", "   for"),
    ("merged", "merge"),
    ("w)", "w, dim=3)"),
    (" * w", " @ w"),
    ("[0]", "[0"),
)


def program(r: Draw) -> str:
    """A random body; it has a mistake with probability MISTAKE_SHARE."""
    body = r.choice(FAMILIES)(r)
    return spoil(r, body) if r.random() < MISTAKE_SHARE else body


def spoil(r: Draw, body: str) -> str:
    """Put one mistake at one place of the body."""
    right, wrong = r.choice([m for m in MISTAKES if m[0] in body])
    parts = body.split(right)
    at = r.randrange(1, len(parts))
    return right.join(parts[:at]) + wrong + right.join(parts[at:])
