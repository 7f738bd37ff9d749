"""Random programs about numbers that float32 does not hold: float64, whole numbers, flat indices.

`program(seed)` writes one from a number alone. Its variables are tensors of the full size in float32,
float64 and int64, and single numbers in float64 and int64. The large run:

    .venv/bin/python tests/engine/trace/number_programs.py --calls 20000 --record FILE
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from selfdev_engine.engine.errors import Rejection
from selfdev_engine.engine.lower import lower
from selfdev_engine.engine.lower.value import NotFusable
from selfdev_engine.engine.trace.replay import replay
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer
from selfdev_engine.kernels.compiler.passes import compile_graph

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import Judge, eager, tensors_of
from fuzzing import Fuzz, Outcome, report

SHAPES = [(24, 40), (3, 3), (1, 17), (50,)]
SCALE = 500.0
# Shares of the update's norm, and of elements that were selected otherwise.
TOLERANCE, MOST_FLIPS, JUMP = 1e-5, 2e-3, 0.05

# F, D, I: tensors of the full size in float32, float64, int64. d, k: single numbers in float64, int64.
# P: a number, K: a whole number.
FORMS = {
    "D": """
F.double()|F.double()|F.double()|D + D|D - D|D * P|D * D|D / (D.abs() + P)|D.abs()|-D|D.abs().sqrt()|D.pow(2)
D + P|P - D|D - P|torch.exp(D)|torch.exp(-D.abs())|torch.cos(D)|torch.sin(D)|torch.tanh(D)|torch.expm1(D)|torch.log1p(D.abs())
torch.log(D.abs() + P)|torch.sqrt(D * D + 1)|(D + 1e8) - 1e8|D * 1e-25|D * 1e25|D + 1e6|1 - torch.cos(D)|D - D.mean()
D - d|D + d|D * d|D / (d.abs() + P)|torch.where(D > d, D, D)|D.clamp(-0.5, 0.5)|torch.maximum(D, D)|D * (D > 0)|D * (D > P)
D + D.mean(-1, keepdim=True)|D - D.mean(0)|D / (D.norm(dim=-1, keepdim=True) + P)|D * (D.abs() >= D.abs().amax())
D * (D.abs() == D.abs().amax(-1, keepdim=True))|torch.stack([D, D, D]).mean(0)|torch.stack([D, D, D]).var(0)
torch.stack([D, D]).std(0)|torch.stack([D, D, D]).softmax(0)[1]|torch.stack([D, D]).pow(2).mean(0)|D.softmax(-1)
D.float().double()|D.round()|D.trunc()|D // 0.1|torch.lerp(D, D, 0.3)|torch.addcmul(D, D, D, value=P)|I.double() * P|I / K
torch.stack([D, D, D]).median(0).values|torch.stack([D, D, D]).sort(0).values[0]|D * F|D + F|torch.hypot(D, D)|torch.sigmoid(D)
""",
    "I": """
(F * 10).long()|(F * 1000).long()|(F * 1e6).long()|(F > 0).long()|(F > P).long()|(F.abs() > F.abs().mean()).long()
I + I|I - I|I * K|I * 7 + I|I * 2654435761|I % K|I // K|torch.div(I, K, rounding_mode='trunc')|I.clamp(-5, 5)|-I|I.abs()
torch.arange(F.numel()).view(F.shape)|torch.arange(F.shape[0]).view(-1, *[1] * (F.dim() - 1)) * K + torch.arange(F.shape[-1])
torch.arange(F.shape[-1]) * 1000003 + I|I.int().long()|(I.int() * K).long()|I & 3|I | 4|I ^ I|I * I|torch.where(I > 0, I, I)
(I == I).long()|torch.maximum(I, I)|torch.stack([I, I, I]).sum(0)|torch.stack([F, F, F]).argmax(0)|torch.bucketize(F, torch.tensor([-0.5, 0.0, 0.5]))
I + I.sum(-1, keepdim=True)|I - I.amax(0)|I + k|I * k|I % (k.abs() + 1)|(I % 5) * (I % 3)|I.float().long()|(D * 100).long()
I.to(torch.int16).long()|I.to(torch.uint8).long()|torch.sign(I)|I.remainder(4294967296)|((I * 31 + 7) % 1000003) * 31
""",
    "d": """
D.mean()|D.sum()|D.norm()|D.pow(2).mean()|D.abs().max()|D.std()|D.var()|D.median()|d - d|d * d|d + P|1 - d|d / (d.abs() + P)
torch.acos(d.clamp(-1, 1))|F.mean().double()|F.norm().double()|(D > 0).double().mean()|torch.dot(D.flatten(), D.flatten())
D.flatten().kthvalue(3).values|d.float().double()|I.double().mean()|I.sum().double()|k.double()|(d + 1e8) - 1e8|1 - torch.cos(d)
D.pow(2).mean() - D.mean().pow(2)|torch.nn.functional.cosine_similarity(D.flatten(), D.flatten(), dim=0)|k / K|d.exp()|torch.log1p(d.abs())
torch.stack([d, d, d]).softmax(0)[0]|torch.stack([d, d]).std()|torch.tensor(0.1, dtype=torch.float64)|D[D > 0].sum()|torch.quantile(D.flatten(), 0.3)
""",
    "k": """
I.sum()|(F > 0).sum()|(D > P).sum()|k + k|k * K|k * 2654435761|k % K|k // 3|I.max()|I.min()|k - k|(d * 1000).long()|k.int().long()|k.abs()
torch.count_nonzero(I)|(I % 2 == 0).sum()|torch.tensor(12345678901)|(F.norm() * 10).long()|torch.stack([k, k]).max()|k ^ k|(I > k).sum()
""",
    "F": """
D.float()|D.float()|(I % K).float() * P|I.float() * P|F * (I % 2 == 0)|torch.where(I % 3 == 0, F, F)|F * d.float()|F * d|F + d.float()
F * (k % 7)|F * (k % 2 == 0)|F * (d > P)|F if k % 2 == 0 else F|F if d > P else F|F * float(d)|F * (int(k) % 5)|F.half().float()
F * (1 + (I % 5) * 0.1)|F - F.mean()|F * (F.abs() == F.abs().amax(-1, keepdim=True))|F + F|F * (torch.arange(F.numel()).view(F.shape) % 2)
F * torch.softmax(torch.stack([d, d, d]).bfloat16(), 0)[0].float()|F * F.bfloat16().std().float()|F[F > 0].sum() * F
""",
}
NUMBERS, WHOLE = ("0.1", "0.3", "0.5", "1.5", "2", "10"), ("2", "3", "7", "97", "1000", "65536")


@dataclass
class Names:
    """The variables of a program so far, by kind."""

    of: dict[str, list[str]] = field(
        default_factory=lambda: {"F": ["a", "b", "c"], "D": [], "I": [], "d": [], "k": []}
    )


def written(r: random.Random, template: str, names: Names) -> str | None:
    """The template with a variable or number for every placeholder; None where a kind has none yet."""
    out = ""
    for i, letter in enumerate(template):
        before, after = template[i - 1 : i], template[i + 1 : i + 2]
        alone = not (
            before.isalnum() or before in ("_", ".", "'") or after.isalnum() or after == "_"
        )
        pool = (
            {**names.of, "P": shuffled(r, NUMBERS), "K": shuffled(r, WHOLE)}.get(letter)
            if alone
            else None
        )
        if pool is not None and not pool:
            return None
        # Mostly the latest one, so that operations build on each other.
        out += (pool[-1] if r.random() < 0.6 else r.choice(pool)) if pool else letter
    return out


def shuffled(r: random.Random, numbers: tuple[str, ...]) -> list[str]:
    return r.sample(numbers, len(numbers))


def program(seed: int) -> str:
    """The text of a program."""
    r, names, lines = random.Random(seed), Names(), list[str]()
    names.of["D"].append("x")
    names.of["I"].append("y")
    for number in range(r.randint(3, 9)):
        kind = r.choice("DDDIIIddkFF")
        options = [o for line in FORMS[kind].strip().splitlines() for o in line.split("|")]
        options = [o for o in options if o.count("(") == o.count(")")]
        code = written(r, r.choice(options), names)
        if code is None:
            continue
        lines.append(f"v{number} = {code}")
        names.of[kind].append(f"v{number}")
    used = names.of["F"][3:] + [f"({n} % 1000).float() * 0.01" for n in names.of["I"][-1:]]
    used += [f"{n}.float()" for n in names.of["D"][-1:]] + [r.choice("abc")]
    body = "".join(f"    {line}\n" for line in lines)
    return (
        "import torch\n\n\ndef merge_models(model_dict, device):\n"
        "    a, b, c = model_dict.values()\n    x, y = a.double(), (b * 100).long()\n"
        f"{body}    return {' + '.join(used)}\n"
    )


# ---- what became of one --------------------------------------------------------------------------


def far(found: torch.Tensor, wanted: torch.Tensor) -> str:
    """How an update differs from the one that is wanted, or nothing."""
    unlike = found.isfinite() != wanted.isfinite()
    finite = found.isfinite() & wanted.isfinite()
    x, y = (torch.where(finite, t.double(), 0.0) for t in (found, wanted))
    size = float(y.norm()) or 1.0
    rms = size / math.sqrt(y.numel())
    jumped = (x - y).abs() > JUMP * (y.abs() + rms)
    flips = float((jumped | unlike).double().mean())
    error = float((x - y)[~jumped].norm()) / size
    if flips > max(MOST_FLIPS, 1.01 / y.numel()):
        return f"{flips:.2%} of the elements are wrong"
    return f"off by {error:.0e}" if error > TOLERANCE else ""


@cache
def judge() -> Judge:
    tracer = Tracer(TraceSettings(timeout_s=10.0, memory_bytes=512 << 20))
    tracer.__enter__()
    return Judge(tracer)


def attempt(seed: int, backend: Any = None) -> Outcome:
    """Makes one program, runs it here and by torch, and compares."""
    text, shape = program(seed), SHAPES[seed % len(SHAPES)]
    tensors = tensors_of(shape, seed % 5, SCALE)
    vectors = dict(tensors.experts)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            single = eager(text, vectors, torch.float32)
    except Exception as error:
        return Outcome(f"eager refuses: {type(error).__name__}")
    one = judge()
    traced = one.trace(text, tensors)
    if isinstance(traced, Rejection):
        fault = "" if traced.kind == "unsupported" else f"{traced.kind}: {traced.detail}"
        return Outcome("no trace", text, fault)
    try:
        update, tier = one.backend.update(compile_graph(lower(traced.graph)), tensors), "fused"
    except NotFusable:
        update, tier = replay(traced.graph, vectors)[0].float(), "hybrid"
    fault = far(update.reshape(shape), single)
    if fault and not shaky(text, vectors, single):
        return Outcome(tier, text, f"{tier}: {fault}\n{shape}")
    return Outcome(f"{tier}, ill-conditioned" if fault else tier)


def shaky(text: str, vectors: dict[str, torch.Tensor], single: torch.Tensor) -> bool:
    """Tells whether eager's own update moves as much when its inputs move by a rounding error."""
    for sign in (1.0, -1.0):
        moved = {n: t * (1.0 + sign * 2.0**-22) for n, t in vectors.items()}
        if far(eager(text, moved, torch.float32), single):
            return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--record", type=Path, help="add the summary to this file")
    chosen = parser.parse_args()
    fuzz = Fuzz(attempt, chosen.first, chosen.calls)
    return report("random programs of float64 and whole numbers", fuzz, chosen.record)


if __name__ == "__main__":
    sys.exit(main())
