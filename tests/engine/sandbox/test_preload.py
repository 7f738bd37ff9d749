"""The zygote and `merge` start without torch's compiler.

What asks the compiler to leave it alone (optimisers, transforms, checkpoints) works all the same.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from selfdev_engine.bench.synthetic import Size, make_models
from selfdev_engine.engine.errors import Rejection
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer

HEAD = "import torch\n\ndef merge_models(model_dict, device):\n    a, b = model_dict.values()\n"
BODIES = {
    "optimiser": """    w = torch.zeros(2, requires_grad=True)
    adam = torch.optim.Adam([w], lr=0.1)
    for _ in range(3):
        adam.zero_grad()
        ((w - 0.3) ** 2).sum().backward()
        adam.step()
    return w[0].item() * a + w[1].item() * b
""",
    "grad": "    g = torch.func.grad(lambda x: (x**2).sum())(torch.ones(3))\n    return g[0].item() * a + b\n",
    "vmap": "    return torch.func.vmap(lambda x: x * 2)(a) + b\n",
    "checkpoint": """    from torch.utils.checkpoint import checkpoint
    return checkpoint(torch.add, a, b, use_reentrant=False)
""",
    "deterministic": """    torch.use_deterministic_algorithms(True)
    return torch.stack([a, b, a]).median(0).values + b
""",
    "jvp": "    return a * torch.func.jvp(lambda x: (x * x).sum(), (a,), (b,))[1] + b\n",
    "disable": "    return torch.compiler.disable(lambda x, y: x + y)(a, b)\n",
}


@pytest.fixture(scope="module")
def tracer():
    with Tracer(TraceSettings()) as one:
        yield one


@pytest.mark.parametrize("name", BODIES)
def test_what_names_the_compiler_runs_without_it(tracer, name):
    program = extract(HEAD + BODIES[name])
    found = tracer.trace(program, "ab", (6, 4), seed=0, tensor_name="t", answer=None)
    assert not isinstance(found, Rejection), found
    assert {n.op for n in found.graph.nodes} & {"aten.add.Tensor"}


def test_compiling_is_a_rejection(tracer):
    program = extract(HEAD + "    return torch.compile(lambda x, y: x + y)(a, b)\n")
    found = tracer.trace(program, "ab", (6, 4), seed=0, tensor_name="t", answer=None)
    assert isinstance(found, Rejection)
    assert found.kind in ("import", "runtime", "unsupported")


def test_the_zygote_does_not_load_it():
    code = (
        "import sys; from selfdev_engine.engine.trace.inside import serve; serve.preload(); "
        "assert not hasattr(sys.modules['torch._dynamo'], '__file__')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"OMP_NUM_THREADS": "1"})


def test_merge_does_not_load_it(tmp_path):
    models = make_models(tmp_path / "models", Size(), torch.bfloat16)
    code = (
        "import atexit, sys; from selfdev_engine.selfdev.cli import main; "
        "atexit.register(lambda: print(hasattr(sys.modules.get('torch._dynamo'), '__file__'))); main()"
    )
    words = ["merge", "ties", *models.words, "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.split()[-1] == "False"  # stdout is for the result alone
