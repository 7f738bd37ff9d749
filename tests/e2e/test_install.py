"""What is installed is what was tested: a wheel of a clean archive, in a fresh environment."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (REPO / ".git").exists(), reason="there is no repository to archive"),
]


def tool(*words: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, timeout=540
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from what git would hand out, in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("a clean archive")
    tool("git", "archive", "--output", folder / "all.tar", "HEAD", cwd=REPO)
    with tarfile.open(folder / "all.tar") as archive:
        archive.extractall(folder / "sources", filter="data")
    words = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    tool(sys.executable, *words, "--wheel-dir", folder, folder / "sources")
    (found,) = folder.glob("*.whl")
    return found


def closure(package: str, seen: set[str]) -> set[str]:
    """A package and all that it needs here, without extras, by normalised name."""
    name = re.sub(r"[-_.]+", "-", package).lower()
    if name in seen:
        return seen
    try:
        needed = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return seen
    seen.add(name)
    for line in needed:
        if "extra ==" not in line:
            closure(re.split(r"[\[<>=!~; (]", line, maxsplit=1)[0], seen)
    return seen


def lend(folder: Path, requirements: list[str]) -> None:
    """Links to the installed packages that these ask for, and to nothing else."""
    folder.mkdir()
    names: set[str] = set()
    for requirement in requirements:
        closure(re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0], names)
    for name in names:
        for file in importlib.metadata.files(name) or []:
            top = file.parts[0]
            source = Path(str(importlib.metadata.distribution(name).locate_file(top)))
            if top not in ("..", "__pycache__") and source.exists():
                (folder / top).unlink(missing_ok=True)
                (folder / top).symlink_to(source)


class Installed:
    """An environment of its own; commands run in an empty folder."""

    def __init__(self, place: Path, wheel: Path, lent: Path) -> None:
        venv.create(place, with_pip=False)
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        self.packages = place / "lib" / version / "site-packages"
        (self.packages / "lent.pth").write_text(f"{lent}\n")
        words = ("install", "--quiet", "--no-deps", "--no-index", wheel)
        tool(sys.executable, "-m", "pip", "--python", place / "bin" / "python", *words)
        self.command, self.work = place / "bin" / "selfdev-engine", place.parent / "work"
        self.work.mkdir(exist_ok=True)

    def call(self, *words: object) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
        command = [str(self.command), *map(str, words)]
        return subprocess.run(
            command, cwd=self.work, env=env, capture_output=True, text=True, timeout=300
        )


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory) -> Installed:
    """Only what the wheel itself asks for."""
    folder = tmp_path_factory.mktemp("base")
    asked = [r for r in metadata_of(wheel).get_all("Requires-Dist") if "extra ==" not in r]
    lend(folder / "lent", asked)
    return Installed(folder / "env", wheel, folder / "lent")


def metadata_of(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_everything_that_is_ours(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    tracked = tool("git", "ls-files", "kernels", "engine", "selfdev", "bench", cwd=REPO).split("\n")
    kinds = (".py", ".jinja", ".txt", ".js", ".css", ".LICENSE")
    wanted = {f"selfdev_engine/{name}" for name in tracked if name.endswith(kinds)}
    assert wanted and not wanted - held
    assert any(re.search(r"kernels/_cpu.*\.so$", name) for name in held)
    assert not [name for name in held if name.startswith(("tests", "zoo", "runs"))]


def test_the_metadata_is_complete(wheel):
    found = metadata_of(wheel)
    for field in (
        "Name",
        "Version",
        "Summary",
        "License-Expression",
        "Requires-Python",
        "Keywords",
    ):
        assert found[field], field
    assert found.get_all("Classifier") and found.get_payload()
    assert found.get_all("License-File") == ["LICENSE"]
    assert set(found.get_all("Provides-Extra")) == {
        *("triton", "cpu", "cuda", "train", "eval", "smollm2", "arms", "cluster"),
        *("pandas", "tensorboard", "wandb", "docs", "dev"),
    }


def test_the_base_runs_without_extras(base, zoo, tmp_path):
    (tmp_path / "p.py").write_text("def merge_models(d, device):\n    return sum(d.values())\n")
    traced = base.call("trace", tmp_path / "p.py", "--shape", "64x48", "--json")
    assert json.loads(traced.stdout)["tier"] == "fused", traced.stderr
    merged = base.call("merge", "ties", *zoo.models, "--out", tmp_path / "out", "--json")
    assert json.loads(merged.stdout)["status"] == "ok", merged.stderr
    doctor = base.call("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(doctor.stdout)["checks"]}
    assert doctor.returncode == 0 and not checks["vllm"]["ok"]
    assert "-m pip install" in checks["vllm"]["fix"]
    methods = base.call("methods", "--json")
    assert len(json.loads(methods.stdout)["methods"]) == 12


def test_the_base_writes_reports(base, tmp_path):
    import gzip
    import shutil

    stored = REPO / "tests/engine/records/runs/v4/screen"
    run = shutil.copytree(stored, tmp_path / "run")
    (run / "run.db").write_bytes(gzip.decompress((run / "run.db.gz").read_bytes()))
    answer = base.call("report", run, "--json")
    assert answer.returncode == 0, answer.stderr
    assert "signs" in (run / "report.html").read_text()


def test_the_base_prints_the_line_that_installs_what_the_zoo_needs(base, tmp_path):
    answer = base.call("zoo", tmp_path / "zoo", "--json")
    assert answer.returncode == 2, answer.stderr
    error = json.loads(answer.stdout)["error"]
    assert re.search(
        r"transformers is not installed: \S*python -m pip install .*transformers", error
    )


def test_with_everything_lent_all_of_it_runs(wheel, zoo, tmp_path):
    """The lock's packages beside it: the zoo is found, a checkpoint is asked."""
    purelib = Path(importlib.metadata.distribution("torch").locate_file(""))
    whole = Installed(tmp_path / "env", wheel, purelib)
    answer = whole.call("zoo", zoo.folder, "--json")
    assert answer.returncode == 0, answer.stderr
    rows = [json.loads(line) for line in zoo.tasks["mixed"].read_text().splitlines()[:4]]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = whole.call("eval", zoo.base, "--task", f"jsonl:{tmp_path / 't.jsonl'}", "--json")
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["n"] == 4
