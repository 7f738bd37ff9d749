"""Makes the database of a screening or a loop that never ran, of any size, through the Store as a run does.

Everything is drawn from a seed. The questions are as long as GSM8K's, and all programs differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import yaml

from ..engine.records.candidate import BASE
from ..engine.records.score import Sample, score_of
from ..engine.records.store import Store
from ..kernels.ir import Builder, Op

EXPERTS = ("math", "code", "chat")
TASK = "jsonl:questions.jsonl"
QUESTION = "A shop sells {} boxes of {} pens each, and a box costs {} coins. " * 4
CONFIG = {
    "base": "models/base",
    "experts": {name: f"models/{name}" for name in EXPERTS},
    "task": TASK,
    "include": "mlp",
}
KINDS = ("syntax", "runtime", "timeout", "shape", "nonfinite", "violation")
PROGRAM = '''"""Candidate {name}: a weighted sum of the task vectors, damped where they disagree."""
import torch


def merge_models(model_dict, device):
    weights = {weights}
    vectors = [vector.to(device) for vector in model_dict.values()]
    total = torch.zeros_like(vectors[0])
    for weight, vector in zip(weights, vectors):
        total = total + weight * vector
    # Where the signs differ, the sum is damped by {damp}.
    signs = torch.stack([torch.sign(vector) for vector in vectors]).sum(0).abs()
    return torch.where(signs < 2, total * {damp}, total)
'''


def make_run(folder: Path, candidates: int, questions: int = 100, seed: int = 0) -> Path:
    """Write config.yaml and run.db of a screening of so many programs into a folder."""
    draw = Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    texts = [
        QUESTION.format(*(draw.randrange(2, 99) for _ in range(12))) + f"({i})"
        for i in range(questions)
    ]
    with Store.open(folder / "run.db") as store, store.transaction():
        names = [BASE, *(f"program-{i:05}" for i in range(candidates))]
        weights = {name: [round(draw.uniform(-0.2, 1), 3) for _ in EXPERTS] for name in names}
        store.add_candidates(row_of(name, weights[name], draw) for name in names)
        for i, name in enumerate(names):
            decide(store, names, i, weights[name], texts, draw)
    return folder


def row_of(name: str, weights: list[float], draw: Random) -> dict[str, object]:
    if name == BASE:
        return {"id": name, "source": None}
    damp = round(draw.random(), 4)
    return {"id": name, "source": PROGRAM.format(name=name, weights=weights, damp=damp)}


def decide(
    store: Store, names: list[str], i: int, weights: list[float], texts: list[str], draw: Random
) -> None:
    """End a candidate: four of five are scored, the others are rejected or repeat an earlier one."""
    name, fate = names[i], draw.random()
    if i and fate < 0.12:
        kind = draw.choice(KINDS)
        return store.decide(name, status="rejected", kind=kind, detail=f"it ends in {kind}", line=6)
    original = store.candidate(names[draw.randrange(1, i)]) if i > 1 and fate < 0.2 else None
    if original and original.status == "scored":
        return store.decide(name, status="duplicate", duplicate_of=original.id, seconds=0.02)
    linear = dict(zip(EXPERTS, weights if i else [0.0] * 3, strict=True))
    residual = draw.random() ** 3 if i else 0.0
    if i:
        fingerprint = f"{draw.getrandbits(64):016x}"
        store.add_trace(name, "fused", None, fingerprint, 0, 1.0, [])
        store.add_plan(fingerprint, plan_of(weights))
    store.decide(
        name,
        status="scored",
        linear={"coefficients": linear, "residual": residual},
        weights_fingerprint=f"nh-{draw.getrandbits(64):016x}",
        seconds=0.2 + draw.random(),
    )
    skill = 0.5 - 0.3 * sum((w - 0.4) ** 2 for w in linear.values())
    store.add_score(name, TASK, "dev", *answered(texts, skill, draw), {"engine": "none"})


def answered(texts: list[str], skill: float, draw: Random):
    """A score with its answers, each right with this probability."""
    samples = []
    for index, text in enumerate(texts):
        right, response = draw.random() < skill, str(draw.randrange(1000))
        samples.append(Sample(index, text, text, response, response, right, right, right))
    return score_of(samples, "flexible"), samples


def plan_of(weights: list[float]) -> bytes:
    """The bytes of a plan: one graph, the weighted sum, for the tensors of a small model."""
    b = Builder()
    terms = [b.add(Op.MUL, b.input(n), b.const(w)) for n, w in zip(EXPERTS, weights, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = b.add(Op.ADD, total, term)
    parts = ("gate_proj", "up_proj", "down_proj")
    tensors = {f"model.layers.{i}.mlp.{part}.weight": 0 for i in range(16) for part in parts}
    graph = {"tier": "fused", "graph": b.graph(total).to_json(), "view": "own"}
    return json.dumps({"plans": [graph], "tensors": tensors, "fingerprint": ""}).encode()
