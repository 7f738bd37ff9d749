"""Makes the folder of a merged model: its place is checked first, and it is renamed there last.

Files are written in a temporary folder beside that place.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UsageError
from ..weights.selection import Selection


def check_out(out: Path, selection: Selection, overwrite: bool) -> None:
    """Raise UsageError where `out` cannot become the merged folder, before anything is paid for.

    It may be a model's own folder, a file, or hold files without `overwrite`.
    """
    models = {"the base": selection.base}
    models |= {f"expert {name}": found for name, found in selection.experts.items()}
    for model, checkpoint in models.items():
        if out.exists() and checkpoint.folder.samefile(out):
            raise UsageError(f"--out {out}: is the folder of {model} ({checkpoint.folder.name})")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file")
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise UsageError(f"--out {out}: holds files already; give --overwrite to replace them")


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Make a temporary folder beside `out`, on the same disk, and delete it afterwards in any case.

    An OSError inside becomes a UsageError that names `out`.
    """
    parent = out.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent, out.name)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.{os.getpid()}.", dir=parent))
    except OSError as error:
        raise UsageError(f"--out {out}: cannot write there: {error.strerror}") from None
    try:
        yield scratch
    except OSError as error:
        raise UsageError(f"--out {out}: cannot write: {error.strerror or error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_leftovers(parent: Path, name: str) -> None:
    """Delete temporary folders of merges to the same name whose process is dead."""
    for old in parent.glob(f".{name}.*.*"):
        pid = old.name.removeprefix(f".{name}.").split(".")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(old, ignore_errors=True)


def put_in_place(fresh: Path, out: Path) -> None:
    """Rename `fresh` to `out`. An old folder is removed only now that the new one is complete."""
    sync(fresh)
    if out.exists():
        old = fresh.parent / "old"
        out.rename(old)
        try:
            fresh.rename(out)
        except OSError:
            old.rename(out)
            raise
    else:
        fresh.rename(out)
    sync(out.absolute().parent)


def sync(folder: Path) -> None:
    """Sync a folder, so that its names are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
