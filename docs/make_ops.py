"""Writes docs/ops.md, which says in which tier an operation runs, from tables and by tracing.

.venv/bin/python docs/make_ops.py            # write it
.venv/bin/python docs/make_ops.py --check    # exit 1 if it is not current
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from selfdev_engine.engine.errors import Rejected
from selfdev_engine.engine.explain import SyntheticAnswers, interpret
from selfdev_engine.engine.lower import supported_ops
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.trace import allowed
from selfdev_engine.engine.trace.conversation import TraceRequest
from selfdev_engine.engine.trace.ops import ASKED
from selfdev_engine.engine.trace.program_clock import ProgramClock
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer

FILE = Path(__file__).with_name("ops.md")
NAMES, SHAPE = ("a", "b", "c"), (96, 160)

INTRO = """# Operations by tier

`docs/make_ops.py` writes this page from the tables that the code itself uses. A test fails when the
page is stale.

A program that runs in eager torch on float32 task vectors runs here in one of three tiers.
`trace --json` gives the tier (`tier`), why it is not a higher one (`reason`) and the shape in which
the program was given the tensor (`view`).

- **fused**: streamed kernels only. They read base and experts once per sweep, and once more to write.
- **hybrid**: torch runs the verified graph on whole tensors, in a child of the sandbox. The result is
  right, but every operation makes a temporary tensor.
- **eager**: the function itself runs on real tensors in such a child, for what no graph can say.
  `trace.eager_tier` turns this tier off.

A program may ask for numbers: `.item()`, `float()`, `if`, `sorted(key=...)`, `.tolist()`, numpy on
small values, a small matrix to be inverted, the order in which experts are picked. A sweep computes
them, and the program stays fused.

A program gets each tensor in its own shape. If torch refuses that shape but would take a vector, the
program gets the tensor as one vector (`view: flat`), and indices count along that vector, 0 to
rows * columns - 1. They are fused, too (`arange` and `linspace` up to 2^24 elements).

Results are those of the program's dtypes. Kernels compute in float32, and scalars and vectors between
sweeps in float64 where the program does. For values of the tensor's size this means:

- float64 is fused where float32 gives the same result: sums of multiples of task vectors, products,
  what a reduction adds up. `(x + 1e8) - 1e8`, `1 - cos(x)` and `E[x^2] - E[x]^2` are hybrid.
- a reduction with a `dtype` that does not hold its terms (`sum(0, dtype=torch.int64)` of floats) casts each
  term first: hybrid.
- evenly spaced numbers (`linspace`) may differ from torch's in the last bit. Steps of them (`floor`, `long()`,
  comparisons) are hybrid.
- integers are fused while their bounds stay below 2^24. Beyond that (codes, hashes, the flat index of
  a tensor of more than 16.7 M elements), or where int32 may wrap around, they are hybrid. The bounds
  assume that no element of a task vector is above 16.

## What stays hybrid

| what | why | what it costs |
| --- | --- | --- |
| `svd`, `qr`, `eigh`, `inv` of a tensor | sees the whole tensor at once | R C min(R, C) operations and more, and several copies of the tensor |
| `a @ b.T` and other products over rows or columns | each number needs a row and a column | 2 R R C operations, an [R, R] tensor |
| `fft`, `cumsum`, `flip`, `roll` along rows or columns | a number needs others of its row or column | a few temporary tensors |
| `argsort`, `topk(...).indices`, `sort` as a whole | an index depends on all numbers. Among equal numbers, which 16-bit checkpoints have by the thousand, torch chooses in its own way, so the result is not known without torch | a sort: n log n |
| `reshape(rows, -1, k)`, `pad`, `cat` of parts in another order | a kernel reads each element at its own index only | a copy of the tensor each |
| float64 that cancels, integers above 2^24 | float32 does not hold them | temporaries of 8 bytes an element |

Each temporary takes 4 bytes an element (8 in float64 and int64): 235 MB at 4096 x 14336. A fused program
takes none. A choice by a threshold (`x >= kthvalue`) is fused; one by indices is not.

`x[mask]` is never gathered in the fused tier. A sweep finds its size, and what is computed from it
counts only where the mask holds.

## What programs write

`a`, `b` and `c` are task vectors of one tensor, `s` is their stack, and `m` is a copy of `a`. Every
line was traced and lowered when this page was made.
"""

WRITTEN: dict[str, str] = {
    "Arithmetic": """
0.5 * a + 0.3 * b - c / 2; a ** 2; a.pow(3); 2 ** a; a // 0.1; a % 0.3; -a; abs(a); a.sign()
torch.lerp(a, b, 0.3); torch.addcmul(a, b, c); torch.addcdiv(a, b, c.abs() + 1); torch.clamp(a, -1, 1)
torch.exp(a); torch.log1p(a.abs()); torch.sigmoid(a); torch.tanh(a); F.gelu(a); F.softplus(a); torch.erf(a)
torch.maximum(a, b); torch.fmin(a, b); torch.hypot(a, b); torch.atan2(a, b); torch.nan_to_num(a / b)
torch.round(a, decimals=3); torch.trunc(a); torch.heaviside(a, b); torch.copysign(a, b); torch.sinc(a)
""",
    "Comparing and choosing": """
torch.where(a > b, a, b); a * (b > 0); (a > 0) & (b > 0) | ~(c > 0); a.masked_fill(b > 0, 0.0)
a * torch.isfinite(b); (a > 0) ^ (b > 0); torch.bucketize(a, torch.tensor([0.0, 0.1])) * a
""",
    "Dtypes": """
a.half().float(); a.bfloat16() * 0.3; a.double() + b; a.to(torch.int8).float(); (a * 10).long() * 0.1
(a.double() - a.double().mean()) / a.double().std(); a.double().exp() * b; ((a.double() + 1e8) - 1e8).float()
1 - torch.cos(a.double()); (a.double().norm() + 1e8 - 1e8).float() * b; torch.log(a.double().square() + 1)
(a * 10).long() % 7 * b; (((a > 0).long() << 1) & 2) * b; ((a > 0).long() ^ (b > 0).long()) * c; (a * 1e6).long() * 1000 % 7 * b; (a > 0).sum() * 2654435761 % 7 * b
torch.arange(a.shape[0])[:, None] * 2654435761 % 7 * b; (torch.arange(a.shape[0])[:, None] * 1000003 + torch.arange(a.shape[1])) % 2 * b
""",
    "Reductions": """
a * b.mean(); a * b.sum(dim=0); a - a.mean(-1, keepdim=True); a / a.std(); s.var(0); s.sum(0); s.prod(0)
a * b.amax(dim=1, keepdim=True); a * (b > 0).any(); a * torch.logsumexp(b, -1, keepdim=True); a * a.prod()
a.cumsum(0); s.cumsum(0)[-1]; s.cummax(0).values[-1]; torch.count_nonzero(a) * b; F.softmax(a, dim=-1)
""",
    "Norms and angles": """
a / a.norm(); a / torch.norm(a, p=1); a / torch.linalg.norm(a); a / a.norm(p=float('inf')); a / a.norm(p=3)
a / a.norm(dim=1, keepdim=True); a / torch.linalg.vector_norm(a, ord=0); a / torch.linalg.matrix_norm(a, ord=1)
F.normalize(a, dim=-1); F.cosine_similarity(a, b, dim=0) * c; F.cosine_similarity(a.flatten(), b.flatten(), 0) * c
torch.dot(a.flatten(), b.flatten()) * c; torch.cdist(s.flatten(1), s.flatten(1)).sum() * a; F.layer_norm(a, a.shape[-1:])
a / torch.linalg.norm(a, ord=2); a / torch.linalg.norm(a, ord='nuc')
""",
    "Order statistics": """
s.median(0).values; a * b.median(); a * (b.abs() > torch.quantile(b.abs(), 0.8)); s.sort(0).values[1]
a * (a.abs() >= a.abs().flatten().kthvalue(5).values); a * (a.abs() >= a.abs().flatten().topk(9).values.min())
a * a.flatten().sort().values[7]; a * (a >= a.topk(4, dim=-1).values[..., -1:]); s.topk(2, 0).values.mean(0)
torch.stack([v.abs().flatten().topk(9).values for v in (a, b)]).mean() * c
s.gather(0, s.abs().argmax(0, keepdim=True))[0]; s.mode(0).values; a * torch.quantile(a, 0.5, dim=0)
a * a.flatten().argsort().view_as(a); a.flatten().index_fill(0, a.flatten().topk(3).indices, 0.0).view_as(a)
""",
    "Masks as indices": """
m[m > 0] = 0.5; return m
m[m > b] *= 2; return m
m[b > 0] = c[b > 0]; return m
a * b[b > 0].mean(); a * b[b > 0].median(); a * torch.masked_select(b, b > 0).std()
m[a.norm(dim=1) > b.norm(dim=1)] = 0; return m
a * (b > 0).nonzero().float().mean()
""",
    "Views and writes": """
m[0] = 0; return m
m[:, ::2] = b[:, ::2]; return m
m.view(-1)[:50] *= 0.5; return m
m[:10] += b[:10]; m[-1] = m[0]; return m
torch.cat([a[:40], b[40:]]); torch.cat([x.chunk(2, 1)[0] for x in (a, b)], 1); a.t().contiguous().t(); a * b[0]
a.reshape(-1).view_as(a); s.permute(1, 2, 0).mean(-1); a.unsqueeze(0).expand(3, *a.shape).sum(0); s.flip(0)[0]
a * torch.zeros_like(b) + 1; torch.full_like(a, 0.5); a.flip(0); torch.roll(a, 1, 0); torch.tril(a); a * a.diagonal().sum()
a * torch.linspace(0, 1, a.shape[1]); a * torch.arange(a.shape[0])[:, None]
""",
    "Products": """
torch.einsum('e,eij->ij', torch.tensor([0.5, 0.3, 0.2]), s); torch.einsum('ij,ij->', a, b) * c
torch.tensordot(torch.ones(3), s, 1); s.flatten(1) @ s.flatten(1).t() @ torch.ones(3) @ torch.ones(3) * a
torch.outer(a.mean(1), b.mean(0)); (a @ b.mean(0))[:, None] * c; torch.linalg.inv(s.flatten(1) @ s.flatten(1).t())[0, 0] * a
a @ b.t() @ c; torch.linalg.svd(a)[1].sum() * b; torch.linalg.qr(a)[0].sum() * b; torch.linalg.eigh(a @ a.t())[0].sum() * b
""",
    "Random numbers": """
torch.rand_like(a) * b; (torch.rand(a.shape) < 0.5) * a; a + torch.randn_like(a) * a.std(); torch.bernoulli(torch.full_like(a, 0.5)) * a
torch.empty_like(a).uniform_(-1, 1) * a; F.dropout(a, 0.2); torch.rand(3)[0] * a; (torch.rand_like(s) * s).sum(0)
torch.randperm(3)[0] * a; torch.randint_like(a, 3) * a
""",
    "Python on values": """
a * b.norm().item(); a if a.norm() > b.norm() else b; sorted([a, b, c], key=torch.norm)[0]; a * float(np.mean([b.mean().item()]))
a * torch.tensor([x.norm() for x in (a, b)]).softmax(0)[0]; s[torch.argsort(s.flatten(1).norm(dim=1))][0]; a * np.array(b.mean())
torch.tensor(sorted(a.flatten().tolist())).view_as(a)
""",
}
# Operations that are fused in part, and in which part. Along rows and columns nothing that needs a
# place is fused.
RANKED = {
    "sort": "along rows, columns or a whole tensor: a number at a known place, sums, extremes",
    "topk": "along rows, columns or a whole tensor: thresholds, sums and means of what it finds",
    "argmax": "along experts",
    "argmin": "along experts",
    "gather": "along experts",
    "index": "a mask, experts at known places, a small table",
    "index_put": "a mask",
    "cumsum": "along experts",
    "cumprod": "along experts",
    "cummax": "along experts",
    "cummin": "along experts",
    "prod": "over experts",
    "mode": "along experts",
    "bitwise_and": "truth values, or a known mask of less than 24 bits",
    "bitwise_or": "truth values",
    "bitwise_xor": "truth values",
    "bitwise_left_shift": "by a known number",
    "bitwise_right_shift": "by a known number",
    "diagonal": "of small matrices",
    "flip": "of experts",
    "mm": "where no axis is needed twice: Gram matrices, matrix times vector",
    "bmm": "as mm",
    "cat": "of experts, or of the parts of an axis in order",
    "repeat": "of dimensions of size 1",
}
ASKED_NAMES = {str(packet).removeprefix("aten.") for packet in ASKED}


def expressions(text: str) -> Iterable[str]:
    """Yields bodies and expressions. A line with `return` is a body; `; ` separates expressions."""
    for line in text.strip().splitlines():
        yield from [line] if "return" in line else [e for e in line.split("; ") if e]


def program_of(expression: str) -> str:
    body = expression if "return" in expression else f"return {expression}"
    return (
        "import numpy as np\nimport torch\nimport torch.nn.functional as F\n\n\n"
        "def merge_models(model_dict, device):\n    a, b, c = model_dict.values()\n"
        f"    s, m = torch.stack([a, b, c]), a.clone()\n    {body.replace('; ', chr(10) + '    ')}\n"
    )


def measured(tracer: Tracer, texts: list[str]) -> list[tuple[str, str]]:
    """The (tier, reason) of each program on synthetic task vectors."""
    found = [("", "")] * len(texts)
    with SyntheticAnswers(tracer, NAMES, SHAPE, 0) as answers:
        jobs = [
            TraceRequest(extract(text), NAMES, SHAPE, 0, "t", answers.answer, tag=i)
            for i, text in enumerate(texts)
        ]
        for job, result in tracer.trace_many(jobs):
            try:
                meaning = interpret(result, job.program, 0, ProgramClock())
                found[job.tag] = meaning.tier, meaning.reason or ""
            except Rejected as error:
                found[job.tag] = "rejected", str(error)
    return found


def written_tables() -> Iterable[str]:
    with Tracer(TraceSettings()) as tracer:
        for title, text in WRITTEN.items():
            codes = list(expressions(text))
            yield f"\n### {title}\n\n| program | tier | why it is not fused |\n| --- | --- | --- |"
            rows = zip(codes, measured(tracer, [program_of(c) for c in codes]), strict=True)
            for code, (tier, reason) in rows:
                shown = code.removesuffix("; return m").replace("|", "\\|")
                yield f"| `{shown}` | {tier} | {reason} |"


def aten_tables() -> Iterable[str]:
    fused = {name.split(".")[1] for name in supported_ops()}
    yield (
        "\n## ATen operations\n\nComposite functions are decomposed into these. An in-place or `out=` "
        "form becomes its functional form\nand a write that every alias sees. An operation that is not "
        "listed is not traced: the eager tier runs it.\n\n"
        "| group | fused | fused in part | hybrid |\n| --- | --- | --- | --- |"
    )
    groups = (
        "ELEMENTWISE",
        "REDUCTIONS",
        "VIEWS",
        "FACTORIES",
        "LINEAR_ALGEBRA",
        "BACKWARD",
        "RANDOM",
    )
    for group in groups:
        names = sorted({word.split(".")[0] for word in getattr(allowed, group)})
        whole = [n for n in names if n in fused and n not in RANKED]
        part = [f"{n} ({RANKED[n]})" for n in names if n in fused and n in RANKED]
        rest = [f"{n}*" if n in ASKED_NAMES else n for n in names if n not in fused]
        cells = (" ".join(whole), "; ".join(part), " ".join(rest))
        yield f"| {group.lower().replace('_', ' ')} | {' | '.join(cells)} |"
    yield "\n\\* The program stays fused if the arguments are small: their numbers are asked for."


def page() -> str:
    return "\n".join([INTRO.rstrip(), *written_tables(), *aten_tables()]) + "\n"


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        current = FILE.read_text() == text
        print(f"{FILE.name} is {'current' if current else 'stale: run docs/make_ops.py'}")
        return not current
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
