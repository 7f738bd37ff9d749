"""Random programs against eager torch: expressions, aliased writes, order statistics, control flow,
numpy, exceptions, closures, dataclasses and loops that ask.

A program is a list of statements about tensors of the full size, some of them views of others, and
0-dim tensors. `make test` runs a few. The large run makes new programs every time:

    pytest -m slow tests/engine/trace/test_differential.py

Programs that once failed stay in REGRESSIONS.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SHAPES = [(24, 40), (3, 3), (1, 17), (50,)]
SCALE = 500.0  # makes task vectors of about 0.25 to 1, so that thresholds and powers matter
NUMBERS = ("0.1", "0.25", "0.5", "0.8", "1.5", "2", "-0.3")

HEAD = """
import copy
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch


@dataclass
class Holder:
    weight: torch.Tensor
    tensor: torch.Tensor

    def scaled(self, factor):
        self.tensor.mul_(factor)
        return self.weight * factor
"""

# F stands for a tensor of the full size, S for a 0-dim tensor, P for a number.
FULL = """
F + F|F - P * F|F * F|F * S|F / (F.abs() + 1)|F / (S.abs() + 0.5)|-F|F.abs()|torch.sign(F)
torch.maximum(F, F)|torch.minimum(F, S)|torch.where(F > S, F, F)|torch.where(F.abs() < P, F, 0.0)
F.clamp(-0.5, 0.5)|F.clamp(min=S)|torch.tanh(F)|torch.sigmoid(F) * F|F.half().float()|F.bfloat16().float()
F.pow(2)|F.square().sqrt()|torch.exp(-F.abs())|torch.log1p(F.abs())|F.round()|(F * 4).long().float() / 4
torch.stack([F, F, F]).mean(0)|torch.stack([F, F, F]).median(0).values|torch.stack([F, F]).max(dim=0)[0]
torch.stack([F, F, F]).std(0)|torch.stack([F, F, F]).sort(dim=0).values[1]|torch.stack([F, F, F]).prod(dim=0)
torch.stack([F, F, F]).softmax(0)[1]|torch.stack([F, F, F]).cumsum(0)[-1]|sum([F, F, F]) / 3
torch.stack([F, F]).gather(0, torch.stack([F, F]).abs().argmax(0, keepdim=True))[0]
torch.lerp(F, F, P)|torch.addcmul(F, F, F, value=P)|torch.addcdiv(F, F, F.abs() + 1, value=P)
F - F.mean(-1, keepdim=True)|F / (F.norm(dim=-1, keepdim=True) + 0.1)|F - F.mean(dim=0)|F.softmax(-1)
F * F.std(dim=-1, keepdim=True)|F - F.amax(0)|F * F.sum(-1, keepdim=True)|F.median(-1, keepdim=True).values + F
torch.where(F > F.quantile(P.abs_, dim=-1, keepdim=True), F, F)|F.masked_fill(F > S, P)|torch.nan_to_num(F / F)
F * (F.abs() >= F.abs().flatten().kthvalue(1 + F.numel() // 3).values)|F * (F > 0)|F * (F > 0).float().mean()
F * ((F > 0) & (F < S))|F * ((F > 0) ^ (F > 0))|(F > 0).float() - (F < S).int()|torch.relu(F) - torch.relu(-F)
F.reshape(-1).reshape(F.shape)|F.flatten().view_as(F) + 1|F.unsqueeze(0).expand(2, *F.shape).sum(0)
torch.cat([F[..., :2], F[..., 2:]], -1)|torch.fmod(F, 0.7)|torch.remainder(F, 0.3)|torch.heaviside(F, S)
torch.copysign(F, F)|torch.atan2(F, F)|torch.hypot(F, F)|F.float().double().float()|torch.zeros_like(F) + S
F * torch.linspace(0, 1, F.shape[-1])|torch.where(torch.arange(F.shape[-1]) % 3 == 0, F, F)|F * torch.arange(F.shape[0]).view(-1, *[1] * (F.dim() - 1)).float()
torch.stack([F, F, F]).cummax(0).values[-1]|torch.stack([F, F, F]).sign().mode(0).values * F|F.to(torch.int8).float() * P
torch.bucketize(F, torch.tensor([-0.5, 0.0, 0.5])) * F|torch.tensor([0.1, 0.5, 1.0, 2.0])[torch.bucketize(F, torch.tensor([-0.5, 0.0, 0.5]))] * F
torch.stack([F, F, F])[torch.stack([S, S, S]).argsort()][0]|torch.stack([F, F])[torch.stack([S, S]).argmax()]|torch.stack([F, F])[(F > S).long()[0, ..., 0].clamp(0, 1)] if F.dim() > 3 else F
torch.linalg.inv(torch.eye(2) * 2 + torch.stack([S, S, S, S]).tanh().view(2, 2) * 0.3)[0, 1] * F|F.sinc()|F.cumsum(-1)|F.flip(-1)|F.roll(1, 0)
torch.full_like(F, 0.3)|F.expand_as(F).clone()|torch.einsum('...,...->...', F, F)|F.dot_ * F|F.clone()
"""
SCALAR = """
F.mean()|F.norm()|F.norm(p=1)|F.abs().max()|F.min()|F.std()|F.var(unbiased=False)|F.sum() / F.numel()
F.median()|F.abs().flatten().kthvalue(1 + F.numel() // 2).values|torch.quantile(F.flatten(), 0.3)
F.flatten().topk(2).values[-1]|F.flatten().sort().values[F.numel() // 4]|torch.linalg.norm(F)|F.norm(p=float('inf'))
(F * F).sum()|torch.nn.functional.cosine_similarity(F.flatten(), F.flatten(), dim=0)|(F > S).float().mean()
F[F > S].sum()|F[F > -9].mean()|F[F > -9].std()|F[F > -9].median()|F[F > -9].norm(p=1)|F[F > -9].max()|F[F > 0].numel() * S
(F[F > 0] * F[F > 0]).sum()|F[F > -9][F[F > -9] > 0].sum()|torch.masked_select(F, F < S).sum()|torch.quantile(F[F > -9], 0.25)|(F[F > S] - S).pow(2).sum()
F[F.abs() > 0.3].abs().sum() / F.numel()|torch.count_nonzero(F > 0) / F.numel()|F[0].sum()|F[..., 1].mean()
(S + S) / 2|S * P|torch.sqrt(S.abs())|torch.stack([S, S, S]).median()|torch.softmax(torch.stack([S, S]), 0)[0]
torch.tensor(P)|torch.dist(F, F)|torch.dot(F.flatten(), F.flatten())|F.amax() - F.amin()|F[..., :2].mean()
"""
WRITES = """
F.mul_(P)|F += P * F|F -= S|F.copy_(F)|F.add_(F, alpha=P)|F.clamp_(-1, 1)|F.abs_()|F.neg_()|F.fill_(P)
F[0] = P|F[0] *= P|F[-1] = F[0]|F[..., 0] = S|F[..., ::2] = F[..., ::2]|F[..., :3] += F[..., :3]|F[1:] *= P
F[F > S] = P|F[F > S] *= P|F[F < 0] += S|F[F.abs() > F.abs()] = S|F.masked_fill_(F < S, P)|F[F > 0] = F[F > 0]
F.reshape(-1)[:5] = P|F.view(-1)[::3] *= P|F.flatten()[:3] = P|F.unsqueeze(0)[0].mul_(P)|F.detach().add_(P)
F[F > S] = F[F > S] * P + S|F[F > 0] = F[F > 0] - F[F > 0]|F[F.abs() > S] /= 2|F[(F > 0) & (F < S)] = P|F[~(F > S)] *= P
F[F.norm(dim=-1) > S] = P|F[F.norm(dim=-1) > S] *= P|F[F > 0] = torch.tanh(F[F > 0])|F[F.flatten().argmax() % F.shape[0]] = P
F[...] = F|F.data.mul_(P)|torch.add(F, F, out=F)|F.lerp_(F, P)|F[:2].zero_()|F[..., -1:].copy_(F[..., :1])
"""
ALIASES = """
F|F.detach()|F.unsqueeze(0).squeeze(0)|F.view(F.shape)|F[...]|F.unsqueeze(-1)[..., 0]|model_dict['kestrel']
"""
BLOCKS = """
if S.item() > P:¦W
if S > P and S < 2:¦W
for _ in range(3):¦W
for t in (F, F, F):¦t.mul_(P)
for i, t in enumerate(sorted([F, F, F], key=lambda t: t.norm().item())):¦F.add_(t, alpha=0.1 * i)
while F.norm().item() > 1e3:¦F.mul_(0.1)
"""
# Several lines each, in which R is a new name: numpy's memory, errors that are caught, views of views, out=,
# dataclasses, aliases, closures, loops with questions.
RICH_SCALAR = """
wR = torch.stack([S, S, S])¦nR = wR.numpy()¦wR /= wR.abs().sum() + 1¦R = torch.tensor(float(nR[0]))
nR = np.zeros(3, dtype=np.float32)¦tR = torch.from_numpy(nR)¦tR[0] = S¦nR[1] = P¦R = tR.sum() + float(nR[0])
wR = torch.stack([S, S])¦nR = wR[1:].numpy()¦nR *= P¦wR += 1¦R = wR[1] + float(nR[0])
R = torch.tensor(np.array([S.item(), P, F.mean().item()]).clip(-1, 1).mean(), dtype=S.dtype)
try:¦    R = torch.linalg.cholesky(torch.stack([S, S]).diag())[0, 0]¦except RuntimeError:¦    R = S
try:¦    R = F[:0].max()¦except RuntimeError:¦    R = S * P
try:¦    R = torch.stack([S, S]).diag().half().inverse()[0, 0].float()¦except RuntimeError:¦    R = S + P
try:¦    R = torch.tensor(F.tolist()).sum()¦except BaseException:¦    R = S
hR = Holder(S, F)¦R = hR.scaled(P) + hR.tensor.mean()
def fR(x, y=S):¦    return (x * y).mean() + S¦R = fR(F)
R = S¦for _ in range(4):¦    if R.abs().item() < P:¦        break¦    R = R * 0.5 + F.mean() * 0.1
R = copy.deepcopy([F, F[0]])[1].sum()|R = torch.as_tensor([S, P, S]).sum()|R = torch.linspace(S, P, 5)[2]
"""
RICH_FULL = """
R = torch.empty_like(F)¦torch.add(F, F, out=R)¦torch.mul(R, P, out=R)|R = F.clone()¦R[1:][..., ::2] *= P
R = F.clone()¦R.view(-1)[3:][::2].add_(P)|pR, qR = copy.deepcopy([F, F[0]])¦qR.mul_(P)¦R = pR
R = F.clone()¦try:¦    R[1:] = R[:-1]¦except RuntimeError:¦    R = R * P
R = torch.from_numpy(F.numpy().copy()) * P|R = reduce(lambda x, y: x + y * P, [F, F, F])|R = torch.vmap(lambda x: x * P)(F)
with torch.inference_mode():¦    R = F.clone()¦    R[::2] *= P¦R = R.clone()|vR = F[..., 1:]¦vR[..., ::2].mul_(P)¦R = F + 0
dR = {"x": F, "y": F}¦dR["x"] = dR["x"] * P¦R = dR["x"] + dR["y"]|R = F.clone().unsqueeze(0)¦R[0][..., 0] = S¦R = R.squeeze(0)
R = (torch.arange(F.numel()).view(F.shape) % 3 == 0) * F|R = F¦for _ in range(5):¦    R = R - 0.3 * (R - F.mean())¦    if R.norm().item() < P:¦        break
"""


# Name -> statements with which a program once went wrong.
REGRESSIONS = {
    "a masked write of another mask's numbers, fewer than are wanted": "c[a > 0] = b[b > 0]\nreturn c",
    "a masked write of another mask's numbers, as many": "c[a > 0] = b[a > 0].flip(0)\nreturn c",
    "a masked write that fits in the 1-D reading only": (
        "x = a * a.sum(-1, keepdim=True)\na[a > 0] = a[x > 0]\nreturn a"
    ),
    "a masked write to a row of a stack": (
        "x = torch.stack([a, b, c])[1]\nx[a > b] = c.norm()\nreturn x + a"
    ),
    "a number written to a row": "a[0] = 0\nreturn a + b",
    "one singular value, with a stride of 0, sent as a constant": (
        "u, s, v = torch.svd(a.reshape(a.shape[0], -1)[:1])\ns = s.clone()\ns[1:] = 0\n"
        "return b * torch.diag(s).sum()"
    ),
    "a write to the head of a view after a write to half of its owner": (
        "m = a.clone()\nm[: m.shape[0] // 2] *= 0.5\nm.view(-1)[:10] = 0.0\nreturn m + b"
    ),
    "draws of a stack of small tensors are draws of the tensor": (
        "s = torch.stack([a, b, c])\nkeep = torch.rand_like(s) < 2\nreturn (s * keep).sum(0)"
    ),
    "rows picked by an argmax and counted by an arange": (
        "s = torch.stack([a, b, c])\nbest = s.norm(dim=-1).argmax(dim=0)\n"
        "return s[best, torch.arange(s.shape[1])] if s.dim() == 3 else s[best]"
    ),
    "a complex number written to a spectrum": (
        "f = torch.fft.rfft(a, dim=-1)\nf[..., 2:] = 0\n"
        "return torch.fft.irfft(f, n=a.shape[-1], dim=-1) + b"
    ),
    "torch refuses the numbers, and the program goes on": (
        "try:\n    u, s, v = torch.linalg.svd((a - a).reshape(1, -1) / 0)\n    w = s.sum().item()\n"
        "except RuntimeError:\n    w = 0.5\nreturn w * a"
    ),
    "torch refuses the numbers": "return torch.linalg.svd((a - a).reshape(1, -1) / 0)[2][:1] * a",
    "a matrix that is not positive definite": (
        "n = torch.stack([a.norm(), -b.norm()])\nreturn torch.linalg.cholesky(torch.diag(n))[0, 0] * a"
    ),
    "a matrix that is singular": (
        "n = torch.stack([a.norm(), a.norm() * 0])\nreturn torch.linalg.inv(torch.diag(n))[0, 0] * a"
    ),
    "a write to a tensor of inference mode, outside of it": (
        "with torch.inference_mode():\n    x = a + b\nx[:1] *= 2\nreturn x"
    ),
    "a refused write to a tensor of inference mode that is caught": (
        "x = torch.inference_mode()(torch.add)(a, b)\ntry:\n    x.view(-1).mul_(2)\n"
        "except RuntimeError:\n    x = x * 3\nreturn x"
    ),
    "a view of a tensor that is older than inference mode": (
        "with torch.inference_mode():\n    x = a[:1]\nx.mul_(2)\nreturn a + b"
    ),
    "a tensor of inference mode that is detached": (
        "with torch.inference_mode():\n    x = a + b\nx.detach().mul_(2)\nreturn x"
    ),
    "inference mode that is off": (
        "with torch.inference_mode():\n    with torch.inference_mode(False):\n        x = a + b\n"
        "x.mul_(2)\nreturn x"
    ),
    "a cast to few bits of what does not fit them": (
        "return (a * 100).to(torch.int8).float() + (b * 1e5).to(torch.int16).float()"
    ),
}


def options(text: str) -> list[str]:
    return [o for line in text.strip().splitlines() for o in line.split("|")]


@dataclass
class Names:
    """The variables of a program so far."""

    full: list[str] = field(default_factory=lambda: ["a", "b", "c"])
    scalar: list[str] = field(default_factory=lambda: ["n"])


def filled(draw: st.DrawFn, template: str, names: Names) -> str:
    """The template with a variable or number for every placeholder."""
    template = template.replace("P.abs_", "0.5").replace(
        "F.dot_", "torch.dot(F.flatten(), F.flatten())"
    )
    out = ""
    for i, letter in enumerate(template):
        alone = not (template[i - 1 : i].isalnum() or template[i + 1 : i + 2].isalnum())
        pool = {"F": names.full, "S": names.scalar, "P": NUMBERS}.get(letter if alone else "")
        out += draw(st.sampled_from(pool)) if pool else letter
    return out


def statement(draw: st.DrawFn, names: Names, number: int) -> str:
    kind = draw(
        st.sampled_from(
            ("full", "full", "full", "scalar", "scalar", "write", "write", "alias", "block", "rich")
        )
    )
    if kind == "rich":
        return rich(draw, names, number)
    pools = {"full": FULL, "scalar": SCALAR, "write": WRITES, "alias": ALIASES}
    if kind == "block":
        head, body = draw(st.sampled_from(BLOCKS.strip().splitlines())).split("¦")
        body = draw(st.sampled_from(options(WRITES))) if body == "W" else body
        return f"{filled(draw, head, names)}\n        {filled(draw, body, names)}"
    code = filled(draw, draw(st.sampled_from(options(pools[kind]))), names)
    if kind == "write":
        return code
    name = f"{'s' if kind == 'scalar' else 'x'}{number}"
    (names.scalar if kind == "scalar" else names.full).append(name)
    return f"{name} = {code}"


def rich(draw: st.DrawFn, names: Names, number: int) -> str:
    """Several lines that make a new tensor of the full size, or a new scalar."""
    full = draw(st.booleans())
    template = draw(st.sampled_from(options(RICH_FULL if full else RICH_SCALAR)))
    name = f"x{number}" if full else f"s{number}"
    code = re.sub(r"(?<=[wntpqvdhf])R\b|\bR\b", name, filled(draw, template, names))
    (names.full if full else names.scalar).append(name)
    return code.replace("¦", "\n    ")


@st.composite
def programs(draw: st.DrawFn) -> str:
    names = Names()
    count = draw(st.integers(2, 9))
    lines = [statement(draw, names, i) for i in range(count)]
    own = draw(st.sampled_from(("model_dict.values()", "[v.clone() for v in model_dict.values()]")))
    picked = " + ".join(dict.fromkeys([*names.full[3:], draw(st.sampled_from(names.full[:3]))]))
    body = "".join(f"    {line}\n" for line in [*lines, f"return {picked}"])
    return (
        f"{HEAD}\n\ndef merge_models(model_dict, device):\n"
        f"    a, b, c = {own}\n    n = a.norm()\n{body}"
    )


def compare(judge, text: str, shape: tuple[int, ...]) -> None:
    found = judge.verdict(text, shape, scale=SCALE)
    # The program works only on a vector, so eager is given one too.
    if found.eager_error and found.tier != "rejected":
        assert len(shape) > 1, (text, found)
        shape = (math.prod(shape),)
        found = judge.verdict(text, shape, scale=SCALE)
        assert not found.eager_error, (text, found)
    elif found.eager_error:
        return
    assert found.tier != "rejected", (text, shape, found.reason)
    assert not found.faults, f"{found.tier}: {found.faults}\n{text}\n{shape}"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", REGRESSIONS)
def test_regressions(judge, name, shape):
    body = "".join(f"    {line}\n" for line in REGRESSIONS[name].splitlines())
    head = "import torch\n\n\ndef merge_models(model_dict, device):\n"
    compare(judge, f"{head}    a, b, c = model_dict.values()\n{body}", shape)


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(text=programs(), shape=st.sampled_from(SHAPES))
def test_random_programs(judge, text, shape):
    compare(judge, text, shape)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@settings(max_examples=1000, deadline=None, print_blob=True, suppress_health_check=QUIET)
@given(text=programs(), shape=st.sampled_from(SHAPES))
def test_many_random_programs(judge, text, shape):
    compare(judge, text, shape)
