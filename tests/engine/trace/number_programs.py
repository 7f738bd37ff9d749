"""Random programs about numbers that float32 does not hold, written as language models write them.

float64, whole numbers, hashes, flat indices, draws; numpy, exceptions, closures, dataclasses, aliases, views
of views, `out=`, loops that ask.

`program(seed)` writes one from a number alone. Its variables are tensors of the full size in float32,
float64 and int64, and single numbers in float64 and int64. Some work on vectors only, and read places of
them. The large run:

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
I << 2|I >> 3|I & 255|~I|(I ^ (I >> 4)) & 1023|(I > 0).long() << 3|(I & 6) + (I >> 1)|(I * 2654435761 & 4294967295) >> 16
torch.arange(F.shape[-1]) + 16777217|(torch.arange(F.shape[-1]) * 65537 + I) % 3|torch.arange(F.numel()).view(F.shape) + 16777213
(torch.arange(F.shape[0]).view(-1, *[1] * (F.dim() - 1)) * 5000011 + torch.arange(F.shape[-1])) % 2|(torch.arange(F.shape[-1]) * 1103515245 + 12345) % 97
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
# Statements. {v} is a new variable, and the letter before the colon is its kind.
STATEMENTS = r"""
F: {v} = F.clone()\n{v}.view(-1)[2:][1:].mul_(P)\n{v}[..., 0] = P
F: {v} = F.clone()\nw = {v}\nw += F\n{v} -= w * P
F: {v} = torch.empty_like(F)\ntorch.mul(F, P, out={v})\ntorch.add({v}, F, out={v})
F: {v} = torch.zeros_like(F)\ntorch.add(F[..., 1:], F[..., 1:], out={v}[..., 1:])
F: h = Holder(d, F.clone())\nh.scale(P)\n{v} = h.tensor + F * h.weight.float()
F: {v} = F.clone()\nfor _ in range(4):\n    if {v}.norm() < P:\n        break\n    {v} = {v} * 0.7 + F * 0.1
F: n = torch.stack([d, d, d]).numpy()\nn /= np.abs(n).sum() + 1\n{v} = F * float(n[1]) + F * n[0].item()
F: n = np.zeros(3)\nw = torch.from_numpy(n)\nn[:] = [d.item(), 1.0, P]\nw *= 0.5\n{v} = F * float(n[2]) + F * w[0].float()
F: try:\n    {v} = F.reshape(7, -1).reshape(F.shape) * P\nexcept RuntimeError:\n    {v} = F - P
F: try:\n    {v} = F / (1 // int((F > P).sum() * 0))\nexcept ZeroDivisionError:\n    {v} = F - P
F: try:\n    {v} = vectors[int(k) % 5] * P\nexcept IndexError as error:\n    {v} = F * len(str(error))
F: seen = []\ndef weighed(x, scale=P):\n    seen.append(x)\n    return x * scale / len(seen)\n{v} = weighed(F) + weighed(F)
F: {v} = sum(w * x for w, x in zip([P, 0.2, float(d.tanh())], [F, F, F]))
F: {v} = F.clone()\n{v}[{v} > P] *= 0.5\n{v}[I % 3 == 0] = P
F: w = torch.softmax(torch.stack([x.norm() for x in (F, F, F)]), 0)\n{v} = sum(p * x for p, x in zip(w, (F, F, F)))
F: {v} = sorted([F, F, F], key=lambda x: float(x.abs().mean()))[1] * P
F: {v} = max([F, F], key=torch.norm) - F
D: {v} = D.clone()\n{v}[{v} > P] *= 2\n{v}.view(-1)[:3] = 0.25
D: {v} = torch.zeros_like(D)\nfor w in (0.1, 0.2, 0.7):\n    {v}.add_(D, alpha=w)
D: {v} = D.clone()\n{v} += D\n{v} *= P\n{v} -= D
D: {v} = torch.empty_like(D)\ntorch.sub(D, D, out={v})
D: u = D.norm()\n{v} = D / u if u > P else D * u
I: {v} = I.clone()\n{v}[F > P] += 3\n{v} <<= 1
I: {v} = sum((x > 0).long() << i for i, x in enumerate(vectors))
I: {v} = sum(torch.sign(x).int() for x in vectors).long()
d: n = np.array([D.mean().item(), D.std().item(), 0.5])\n{v} = torch.tensor(n / n.sum())[0]
d: {v} = torch.tensor([float(d), P]).double().sum()
k: {v} = torch.tensor(int((F > P).sum()) % 7)
G: {v} = -torch.log(-torch.log(torch.rand_like(F) + 1e-9) + 1e-9)
G: {v} = torch.empty_like(F).exponential_(P).log()
G: {v} = F * (torch.rand(F.shape) < 0.5)\n{v} = {v} + torch.randn_like(F) * P
G: {v} = torch.nn.functional.gumbel_softmax(torch.stack([F, F, F]), dim=0)[0] * F
G: w = torch.stack([F, F]) - torch.empty(2, *F.shape).exponential_().log()\n{v} = torch.where(w[0] > w[1], F, F)
G: {v} = torch.bernoulli(torch.full_like(F, 0.3)) * F + torch.nn.functional.dropout(F, 0.2)
"""
# What only programs of vectors have: forms and statements that read places.
ONLY_VECTORS = "a.dot(b)"
PLACES = {
    "F": """
F + F[1]|F - F[-1]|F * F[2:-1].sum()|torch.cat([F[:2] * P, F[2:]])|F * torch.arange(len(F))|F * torch.linspace(0, 1, len(F))
torch.where(torch.arange(len(F)) < K, F, F)|F * F[::2].mean()|F + (torch.arange(len(F)) * F).mean()|F * F[2].item()
F * (torch.arange(len(F)) % 2)|F * sum(F[1:4].tolist())|F + F[1:3].median()|F[torch.arange(len(F)) % 2 == 0].sum() * F
F * (F * torch.arange(len(F))).sum().item()|F.cumsum(0)|F.flip(0)|torch.where(torch.rand(len(F)) < 0.5, F, F) * 0 + F[3]
torch.stack([F, F])[(F > F).long(), torch.arange(len(F))]|F * F[K % len(F)]|F if F[1] > F[-2] else F * P
""",
    "D": """
D + D[1]|D * torch.arange(len(F))|D * torch.arange(len(F), dtype=torch.float64)|D * D[2:-1].mean()|torch.cat([D[:3], D[3:] * P])
""",
    "I": """
torch.arange(len(F)) * K + I|torch.arange(len(F)) // K|I + I[2]|I + I[1:5].sum()|torch.arange(3, 3 + 2 * len(F), 2) % K
""",
    "d": "D[1]|D[-2:].sum()|(D * torch.arange(len(F))).mean()",
    "k": "I[1]|I[-3:].sum()|(I[::2] > 0).sum()",
}
PLACE_STATEMENTS = r"""
F: {v} = F.clone()\n{v}[1:7] = P\n{v}[2] *= P
F: {v} = F.clone()\n{v}[::3] += F[::3]
F: {v} = F.clone()\n{v}[-1] = F[0]\n{v}[2:] -= F[2:] * P
D: {v} = D.clone()\n{v}[1:5].mul_(P)
"""
NUMBERS, WHOLE = ("0.1", "0.3", "0.5", "1.5", "2", "10"), ("2", "3", "7", "97", "1000", "65536")


HEAD = """from dataclasses import dataclass

import numpy as np
import torch


@dataclass
class Holder:
    weight: torch.Tensor
    tensor: torch.Tensor

    def scale(self, factor):
        self.tensor.mul_(factor)
"""


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


def statement(r: random.Random, name: str, names: Names, texts: str) -> list[str]:
    """The lines of a statement that makes a variable; none where a kind has none yet."""
    kind, text = r.choice(texts.strip().splitlines()).split(": ", 1)
    code = written(r, text.replace("{v}", name), names)
    if code is None:
        return []
    names.of["F" if kind == "G" else kind].append(name)
    return code.replace("\\n", "\n").splitlines()


def works_on_vectors(seed: int) -> bool:
    return seed // len(SHAPES) % 3 == 2


def program(seed: int) -> str:
    """The text of a program."""
    r, names, lines = random.Random(seed), Names(), list[str]()
    forms, texts = FORMS, STATEMENTS
    if works_on_vectors(seed):
        lines.append(ONLY_VECTORS)
        forms = {k: "\n".join([FORMS[k].strip(), *3 * [p.strip()]]) for k, p in PLACES.items()}
        texts = texts.strip() + PLACE_STATEMENTS
    names.of["D"].append("x")
    names.of["I"].append("y")
    for number in range(r.randint(3, 9)):
        if r.random() < 0.3:
            lines += statement(r, f"v{number}", names, texts)
            continue
        kind = r.choice("DDDIIIddkFF")
        options = [o for line in forms[kind].strip().splitlines() for o in line.split("|")]
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
        f"{HEAD}\n\ndef merge_models(model_dict, device):\n    vectors = list(model_dict.values())\n"
        "    a, b, c = vectors\n    x, y = a.double(), (b * 100).long()\n"
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
    if ONLY_VECTORS in text:
        vectors = {name: t.flatten() for name, t in vectors.items()}
    try:
        single = quiet(text, vectors).reshape(shape)
    except Exception as error:
        return Outcome(f"eager refuses: {type(error).__name__}")
    one = judge()
    traced = one.trace(text, tensors)
    if isinstance(traced, Rejection):
        # A clock may run out on a busy machine: that is counted, and no finding.
        expected = traced.kind in ("unsupported", "timeout")
        fault = "" if expected else f"{traced.kind}: {traced.detail}"
        return Outcome(f"no trace: {traced.kind}", text, fault)
    vectors = {name: t.reshape(traced.graph.shape) for name, t in vectors.items()}
    try:
        update, tier = one.backend.update(compile_graph(lower(traced.graph)), tensors), "fused"
    except NotFusable:
        update, tier = replay(traced.graph, vectors)[0].float(), "hybrid"
    if draws(traced):
        # Draws of the tensor's size are not eager's: both tiers must draw the same, and that is all.
        single = replay(traced.graph, vectors)[0].float().reshape(shape)
    fault = far(update.reshape(shape), single)
    if fault and not shaky(text, traced, vectors, single):
        return Outcome(tier, text, f"{tier}: {fault}\n{shape}")
    return Outcome(f"{tier}, ill-conditioned" if fault else tier)


def quiet(text: str, vectors: dict[str, torch.Tensor]) -> torch.Tensor:
    """What eager torch makes of a program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eager(text, vectors, torch.float32)


def draws(traced: Any) -> bool:
    return any("draw" in node.kwargs for node in traced.graph.nodes)


def shaky(text: str, traced: Any, vectors: dict[str, torch.Tensor], single: torch.Tensor) -> bool:
    """Tells whether eager's own update moves as much when its inputs move by a rounding error."""
    for sign in (1.0, -1.0):
        moved = {n: t * (1.0 + sign * 2.0**-22) for n, t in vectors.items()}
        if draws(traced):
            found = replay(traced.graph, moved)[0].float().reshape(single.shape)
        else:
            found = quiet(text, moved).reshape(single.shape)
        if far(found, single):
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
