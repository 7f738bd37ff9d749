"""Rules of the house: names, imports, sizes of files and functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
FOLDERS = ("kernels", "engine", "selfdev", "bench")
SOURCES = [path for folder in FOLDERS for path in (REPO / folder).rglob("*.py")]
MAY_IMPORT = {"kernels": set(), "engine": {"kernels"}, "selfdev": {"engine", "kernels"}}


def test_our_kernels_are_not_hugging_faces():
    """Run from the repository root, transformers must not find our folder as `kernels`."""
    code = (
        "import importlib.util as u; from transformers.utils import is_kernels_available as a; "
        "assert u.find_spec('kernels') is None and not a()"
    )
    subprocess.run([sys.executable, "-P", "-c", code], cwd=REPO, check=True)
    assert not list((REPO / "kernels").rglob("__init__.py"))


@pytest.mark.parametrize("module", ["engine", "kernels.ir", "selfdev.cli", "bench.registry"])
def test_base_imports_need_no_extra(module: str):
    code = (
        f"import sys, selfdev_engine.{module}; "
        "assert not {'vllm', 'trl', 'ray', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def imported_folders(path: Path) -> set[str]:
    """The other top folders that a module imports, by its relative imports."""
    depth, found = len(path.relative_to(REPO).parts), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {name.split(".")[0] for name in names}
    return found - {path.relative_to(REPO).parts[0]}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_nothing_flows_back_up(folder: str):
    wrong = {
        str(path.relative_to(REPO)): above
        for path in SOURCES
        if path.relative_to(REPO).parts[0] == folder
        and path != REPO / "selfdev" / "cli" / "bench.py"  # the command itself
        and (above := imported_folders(path) - MAY_IMPORT[folder])
    }
    assert not wrong


def test_modules_and_functions_stay_small():
    long = [
        f"{p.relative_to(REPO)}: {n} lines"
        for p in SOURCES
        if (n := len(p.read_text().splitlines())) > 400
    ]
    lengths = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                lengths.append(node.end_lineno - node.lineno + 1)
                if lengths[-1] > 80:
                    long.append(f"{path.relative_to(REPO)}: {node.name} has {lengths[-1]} lines")
    assert not long
    assert sorted(lengths)[len(lengths) // 2] <= 12


def test_every_module_says_what_it_is_for():
    silent = [
        str(p.relative_to(REPO)) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert not silent
