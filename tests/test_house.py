"""Rules of the house: names, imports, sizes of files and functions."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
FOLDERS = ("kernels", "engine", "selfdev", "bench", "api")
SOURCES = [path for folder in FOLDERS for path in (REPO / folder).rglob("*.py")]

# Each room and its floor: a module imports its own room and rooms of lower floors only.
ROOMS = {
    "kernels": 1,  # the language
    "kernels/compiler": 2,
    "kernels/execution": 3,
    "kernels/cpu": 4,
    "kernels/triton": 4,
    "kernels/backends": 5,
    "engine": 8,
    "engine/extras": 9,
    "engine/errors": 10,
    "engine/given": 11,
    "engine/program": 12,
    "engine/weights": 12,
    "engine/sandbox": 12,
    "engine/tasks": 13,
    "engine/trace": 13,
    "engine/records": 14,
    "engine/lower": 14,
    "engine/plans": 15,
    "engine/output": 16,
    "engine/resident": 16,
    "engine/workers": 17,
    "engine/screening": 18,
    "engine/merge": 19,
    "engine/screen": 19,
    "engine/evaluate": 19,
    "engine/explain": 19,
    "selfdev": 20,
    "bench": 21,
    "api": 22,
}
# Classes over 150 lines: each is one list of methods that would be no clearer in two places (the ops that
# a mode sees, the queries of run.db, the calls of a worker, the rules of a race).
LARGE_CLASSES = {"LazyMode", "Store", "Client", "Race"}
DOORS = {  # what may lie directly in a top folder
    "engine": "__init__.py extras.py errors.py given.py program.py merge.py screen.py evaluate.py explain.py",
    "kernels": "ir.py stages.py tensors.py errors.py verify.py reference.py philox.py digest.py backends.py",
}


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


LIGHT = (  # what only looks at headers, configs and run.db
    *("engine.records.store", "engine.records.compare", "engine.screening.inputs"),
    *("engine.screening.identity", "engine.screening.contents_reader"),
    *("engine.screening.folder", "engine.resident.client", "engine.weights.selection"),
    *("engine.output.folder", "engine.evaluate", "selfdev.config", "selfdev.inputs"),
    *("selfdev.report", "selfdev.export", "kernels.backends"),
)


@pytest.mark.parametrize("module", LIGHT)
def test_what_only_reads_loads_no_torch(module: str):
    code = f"import sys, selfdev_engine.{module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_the_door_is_light_and_complete():
    """`import selfdev_engine` loads nothing else; every name that it offers is there."""
    code = (
        "import sys; before = set(sys.modules); import selfdev_engine as sd; "
        "new = {n for n in set(sys.modules) - before if 'selfdev' in n or n == 'torch'}; "
        "assert new == {'selfdev_engine'}, new; assert sorted(sd.__all__) == sorted(sd.NAMES); "
        "assert sd.__version__; [getattr(sd, name) for name in sd.__all__]"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def module_of(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(REPO).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {module_of(path): path for path in SOURCES}


def imports_of(module: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Our modules that a module imports: at its top, in functions, and under TYPE_CHECKING."""
    path, found = MODULES[module], set()
    package = module if path.name == "__init__.py" else module[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = package[: len(package) - node.level + 1]
            source = start + tuple((node.module or "").split(".") if node.module else ())
            names = {(*source, alias.name) for alias in node.names}
            found |= {name if name in MODULES else source for name in names}
    return found & MODULES.keys()


IMPORTS = {module: imports_of(module) for module in MODULES}


def floor_of(module: tuple[str, ...]) -> int:
    return ROOMS[room_of(module)]


def room_of(module: tuple[str, ...]) -> str:
    """The most exact entry that names the module or a folder above it."""
    names = ["/".join(module[:end]) for end in range(len(module), 0, -1)]
    return next(name for name in names if name in ROOMS)


def test_imports_go_down():
    """A module imports its own room and lower floors; rooms of one floor do not know each other."""
    wrong = [
        f"{'/'.join(module)} imports {'/'.join(other)}"
        for module, others in IMPORTS.items()
        for other in others
        if room_of(module) != room_of(other) and floor_of(module) <= floor_of(other)
        if (module, other) != (("selfdev", "cli", "bench"), ("bench", "registry"))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_imports_in_a_circle():
    """Also none through functions or TYPE_CHECKING: CycleError names the circle."""
    TopologicalSorter(IMPORTS).prepare()


def test_nobody_imports_what_runs_in_the_cage():
    inside = {module for module in MODULES if module[:3] == ("engine", "trace", "inside")}
    wrong = {"/".join(m) for m, others in IMPORTS.items() if others & inside} - {
        "/".join(m) for m in inside
    }
    assert inside and not wrong


def test_a_new_file_has_a_room():
    """engine/ and kernels/ are no rooms: a new module belongs into a folder of theirs."""
    for folder, files in DOORS.items():
        assert {path.name for path in (REPO / folder).glob("*.py")} <= set(files.split())


def test_the_architecture_page_lists_every_room():
    """Its table has the rooms of engine/ with their floors; what it calls main is defined there."""
    page = (REPO / "docs" / "architecture.md").read_text()
    table = re.findall(r"^\| `(engine[/\w]*)` \| (\d+) \|[^|]*\|([^|]*)\|$", page, re.MULTILINE)
    rooms = {room: floor for room, floor in ROOMS.items() if room.split("/")[0] == "engine"}
    assert {room: int(floor) for room, floor, _ in table} == rooms
    code = {room: "\n".join(p.read_text() for p in SOURCES if in_room(p, room)) for room in rooms}
    for room, _, names in table:
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(class|def) {name}\b", code[room], re.MULTILINE), (room, name)


def in_room(path: Path, room: str) -> bool:
    return room_of(module_of(path)) == room


def definitions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield path, node


def num_lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_modules_functions_and_classes_stay_small():
    modules = {str(p.relative_to(REPO)): len(p.read_text().splitlines()) for p in SOURCES}
    functions, classes = list[int](), dict[str, int]()
    for _, node in definitions():
        if isinstance(node, ast.ClassDef):
            classes[node.name] = num_lines(node)
        else:
            functions.append(num_lines(node))
    assert not {name: lines for name, lines in modules.items() if lines > 400}
    assert max(functions) <= 60
    assert sorted(functions)[len(functions) // 2] <= 8
    assert {name for name, lines in classes.items() if lines > 150} <= LARGE_CLASSES


def test_a_class_name_means_one_thing():
    """Within a top folder; `Settings` of two rooms would be two things with one name."""
    names = Counter(
        (path.relative_to(REPO).parts[0], node.name)
        for path, node in definitions()
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in names.items() if count > 1]


def test_prose_has_subjects():
    """No docstring begins with "Of", no comment is a bare "of ...", "that ..." or "which ..."."""
    docstrings = [
        f"{path.relative_to(REPO)}: {node.name}"
        for path, node in definitions()
        if (ast.get_docstring(node) or "").startswith("Of ")
    ]
    comments = [
        f"{path.relative_to(REPO)}: {token.string}"
        for path in SOURCES
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.COMMENT and re.match(r"#\s*(of|that|which|whose)\b", token.string)
    ]
    assert not docstrings + comments


def test_every_module_says_what_it_is_for():
    silent = [
        str(p.relative_to(REPO)) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert not silent


PAGES = [REPO / "README.md", REPO / "LOG.md", REPO / "CHANGELOG.md", *(REPO / "docs").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path):
    """Links lead to files; paths in backticks are those of today's tree."""
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    gone = [link for link in links if not (page.parent / link).exists()]
    if page.name not in ("LOG.md", "CHANGELOG.md"):  # they tell of earlier trees, too
        named = re.findall(
            r"`((?:engine|kernels|selfdev|bench|tests)/[\w/.]+\.(?:py|cpp|h|json))`", text
        )
        gone += [name for name in named if not (REPO / name).exists()]
    assert not gone


def test_the_readme_lists_every_page():
    """Its last table says in a line what each page of docs/ is about."""
    listed = set(
        re.findall(r"^\| \[[^]]+\]\((docs/[^)]+)\) \|", (REPO / "README.md").read_text(), re.M)
    )
    assert listed == {str(page.relative_to(REPO)) for page in (REPO / "docs").glob("*.md")}
