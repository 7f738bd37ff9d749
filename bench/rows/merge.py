"""`merge`: merging 3 experts of 0.5 B parameters in bf16 from disk to disk, beside mergekit.

Each method is checked before it is timed: one tensor's update against its formula in float64. The
same run times mergekit (if `make peers` was run), a plain copy of the same files (read all, write
one, fsync) and `import torch` in a new process. All files stay in the page cache.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import mergekit
from ..process import IMPORT, Usage, engine_command, usage_of
from ..registry import Row
from ..synthetic import HALF_BILLION, Models, make_models
from ..timing import LEAST_CPU_PER_WALL

ROUNDS = 3
DENSITY, WEIGHT = 0.5, 0.4
MOST_RSS_SHARE, LEAST_COPY_SHARE = 0.25, 0.5
JUDGED = "model.layers.3.mlp.up_proj.weight"
COPY = """import os, sys
buffer = memoryview(bytearray(16 << 20))
with open(sys.argv[1], "wb", buffering=0) as target:
    for i, name in enumerate(sys.argv[2:]):
        with open(name, "rb", buffering=0) as source:
            while size := source.readinto(buffer):
                if i == 0:
                    target.write(buffer[:size])
    os.fsync(target.fileno())"""


@dataclass(frozen=True)
class Method:
    """One method with the same settings for us and for mergekit.

    `target` is how many times as fast as mergekit we want to be.
    """

    target: float
    ours: dict[str, float | str]
    theirs: dict[str, float]  # for each expert
    update: Callable[[list[Tensor]], Tensor]
    random: bool = False


def task_arithmetic(vectors: list[Tensor]) -> Tensor:
    return WEIGHT * torch.stack(vectors).sum(0)


def model_stock(vectors: list[Tensor]) -> Tensor:
    pairs = list(combinations(vectors, 2))
    cosine = sum((a * b).sum() / a.norm() / b.norm() for a, b in pairs) / len(pairs)
    count = len(vectors)
    return count * cosine / (1 + (count - 1) * cosine) * torch.stack(vectors).mean(0)


def elected(kept: Tensor) -> tuple[Tensor, Tensor]:
    """The entries that have the sign of their sum over experts, and their mask; [experts, ...]."""
    agrees = torch.where(kept.sum(0) >= 0, kept > 0, kept < 0)
    return kept * agrees, agrees


def ties(vectors: list[Tensor]) -> Tensor:
    bars = [v.abs().flatten().sort().values[int((1 - DENSITY) * v.numel())] for v in vectors]
    kept = torch.stack([v * (v.abs() >= bar) for v, bar in zip(vectors, bars, strict=True)])
    voted, agrees = elected(WEIGHT * kept)
    return voted.sum(0) / (WEIGHT * agrees.sum(0)).clamp(min=WEIGHT)


def dare_ties(vectors: list[Tensor]) -> Tensor:
    """The update with draws of our own, so that only its norm can be compared."""
    v = torch.stack(vectors)
    draw = torch.rand(v.shape, generator=torch.Generator().manual_seed(0))
    return elected(WEIGHT * v * (draw < DENSITY) / DENSITY)[0].sum(0)


WORDS = ",".join([str(WEIGHT)] * 3)
BOTH, THEIRS = {"weights": WORDS, "density": DENSITY}, {"weight": WEIGHT, "density": DENSITY}
METHODS = {
    "task_arithmetic": Method(3, {"weights": WORDS}, {"weight": WEIGHT}, task_arithmetic),
    "model_stock": Method(3, {}, {}, model_stock),
    "dare_ties": Method(10, BOTH, THEIRS, dare_ties, random=True),
    "ties": Method(30, BOTH, THEIRS, ties),
}


def measure(zoo: Path, update: Callable[[int, int], None]) -> Row:
    """Seconds of mergekit's task_arithmetic over ours; the gate asks for every method's target."""
    with tempfile.TemporaryDirectory(prefix="bench-merge-") as scratch:
        models = make_models(Path(scratch) / "models", HALF_BILLION, torch.bfloat16)
        found: dict[str, dict[str, Any]] = {}
        for done, name in enumerate(METHODS):
            update(done, len(METHODS))
            found[name] = timed_method(name, models, Path(scratch))
    return row_of(found)


def timed_method(name: str, models: Models, scratch: Path) -> dict[str, Any]:
    """Time some rounds of import, copy and our merge, and mergekit once, in the middle."""
    out, method = scratch / "out", METHODS[name]
    words = [w for key, value in method.ours.items() for w in ("--param", f"{key}={value}")]
    ours = engine_command("merge", name, *models.words, *words, "--include", "all", "--out", out)
    copy = [sys.executable, "-c", COPY, str(out), *map(str, models.files)]
    timed(ours, out)
    judge(method, models, out)
    uses: dict[str, list[Usage]] = {"import": [], "copy": [], "ours": [], "mergekit": []}
    for number in range(ROUNDS):
        for what, command in (("import", IMPORT), ("copy", copy), ("ours", ours)):
            uses[what].append(timed(command, out))
        if number == ROUNDS // 2 and mergekit.installed():
            uses["mergekit"].append(timed(mergekit.command(recipe(name, models), out), out))
    return figures(method, uses)


def timed(command: Sequence[str], out: Path) -> Usage:
    """Run a command after removing earlier output and waiting for the disk."""
    if out.is_dir():
        shutil.rmtree(out)
    out.unlink(missing_ok=True)
    os.sync()
    return usage_of(command)


def recipe(name: str, models: Models) -> dict[str, Any]:
    each = [METHODS[name].theirs] * len(models.experts)
    return mergekit.recipe(name, models.base, models.experts, dtype="bfloat16", each=each)


def judge(method: Method, models: Models, out: Path) -> None:
    """Check the merged tensor against the formula in float64; the unchanged base must fail."""
    from safetensors import safe_open

    def read(folder: Path) -> Tensor:
        with safe_open(folder / "model.safetensors", "pt") as file:
            return file.get_tensor(JUDGED)

    base, merged = read(models.base), read(out)
    vectors = [read(place).double() - base.double() for place in models.experts.values()]
    wanted = method.update(vectors)
    if method.random:
        scale = float((merged.double() - base.double()).norm() / wanted.norm())
        assert abs(scale - 1) < 0.02, f"the update is {scale:.3f} times as long as it should be"
        return
    exact = (base.double() + wanted).to(base.dtype)
    wrong, idle = ((x != exact).double().mean() for x in (merged, base))
    assert wrong < 1e-3 and idle > 0.1, (
        f"{wrong:.2%} of the elements differ, {idle:.0%} of the base"
    )


def figures(method: Method, uses: dict[str, list[Usage]]) -> dict[str, Any]:
    """Medians of seconds, the ratios that have targets, and every run."""
    seconds = {
        what: statistics.median(u.seconds for u in found) for what, found in uses.items() if found
    }
    cpu = {what: statistics.median(u.cpu_s for u in found) for what, found in uses.items() if found}
    rss = {what: max(u.peak_rss_bytes for u in found) for what, found in uses.items() if found}
    net_s = seconds["ours"] - seconds["import"]
    compared: dict[str, Any] = {"copy_per_net": seconds["copy"] / net_s, "target": method.target}
    if "mergekit" in seconds:
        compared["x_mergekit"] = seconds["mergekit"] / seconds["ours"]
        compared["x_mergekit_cpu"] = cpu["mergekit"] / cpu["ours"]
        compared["rss_per_mergekit"] = rss["ours"] / rss["mergekit"]
    runs = {what: [asdict(u) for u in found] for what, found in uses.items()}
    quiet = statistics.median(u.cpu_s / u.seconds for u in uses["import"])
    return {**compared, "seconds": seconds, "rss": rss, "import_cpu_per_wall": quiet, "runs": runs}


def row_of(found: dict[str, dict[str, Any]]) -> Row:
    """The row; not measured if `import torch`, one busy thread, did not get a whole processor."""
    first = found["task_arithmetic"]
    peer = mergekit.installed()
    rival = "mergekit" if peer else "copy"
    measured = all(f["import_cpu_per_wall"] >= LEAST_CPU_PER_WALL for f in found.values())
    met = peer and all(
        f["x_mergekit"] >= f["target"]
        and f["rss_per_mergekit"] < MOST_RSS_SHARE
        and f["copy_per_net"] >= LEAST_COPY_SHARE
        for f in found.values()
    )
    more = {"methods": found, "load": os.getloadavg()[0]}
    return Row(
        "merge",
        first["seconds"]["ours"],
        "s",
        "mergekit 0.1.5, s" if peer else "plain copy, s (no mergekit)",
        first["seconds"][rival],
        first["seconds"][rival] / first["seconds"]["ours"],
        "`import torch`, then a plain copy of the same files",
        met if measured and peer else None,
        more if peer else {**more, "missing": mergekit.MISSING},
        measured,
    )


# Times one method: python -m selfdev_engine.bench.rows.merge ties
if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        made = make_models(Path(place) / "models", HALF_BILLION, torch.bfloat16)
        print(json.dumps(timed_method(sys.argv[1], made, Path(place)), indent=1))
