"""Copies what belongs to a model besides its weights: config, tokenizer, templates.

A merged folder gets them from the base, so that nothing of this machine comes along: regular files, or
links that stay in the model's own folder or in the blobs of its hub repository. Code is copied only on
request.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..weights.companion_files import PARSED, check_json
from ..weights.disguises import disguise_of
from ..weights.files import ADAPTER, INDEX
from ..weights.locate import hub_blobs
from .licence import CARD
from .owned import MARKER, PROGRAM, TEMPLATES

# Suffixes of weights in any format, which are written tensor by tensor.
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".pkl"}
WEIGHTS |= {".onnx"}
# Files that are written anew for the merged model.
OWN = (CARD, PROGRAM, MARKER, INDEX)


@dataclass(frozen=True)
class Companions:
    """The files to copy, by their place in the new folder, and what is left out, for people."""

    files: dict[str, Path]
    left_out: list[str]

    @staticmethod
    def of(folder: Path, trust_remote_code: bool = False) -> Companions:
        """Find the companions of a model's folder.

        UsageError names a file that cannot be copied, and says what to do.
        """
        files, left_out = dict[str, Path](), list[str]()
        for path in sorted(named(folder)):
            name = str(path.relative_to(folder))
            if ADAPTER.match(name):
                left_out.append(f"{name} (an adapter, which would be loaded over the merge)")
            elif path.suffix == ".py" and not trust_remote_code:
                left_out.append(f"{name} (code; --trust-remote-code copies it)")
            else:
                files[name] = checked(path, folder)
        return Companions(files, left_out)

    def copy(self, target: Path) -> None:
        """Copy the files into the folder `target`."""
        for name, path in self.files.items():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target / name)


def named(folder: Path) -> Iterator[Path]:
    """Yield the files that may be companions, by their names."""
    for path in folder.iterdir():
        if path.name == TEMPLATES:
            yield from path.glob("*.jinja")
        elif ADAPTER.match(path.name) or not (
            path.name.startswith(".")
            or path.name in OWN
            or path.suffix in WEIGHTS
            or path.name.endswith(".index.json")
            or path.is_dir()
        ):
            yield path


def checked(path: Path, folder: Path) -> Path:
    """Return the regular file that is meant. UsageError where there is none, or it lies elsewhere."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise UsageError(f"{path}: a link that leads to no file") from None
    homes = [folder.resolve(), *([blobs] if (blobs := hub_blobs(folder)) else [])]
    if not any(target.is_relative_to(home) for home in homes):
        raise UsageError(
            f"{path}: a link that leads out of the model's folder, to {target}, so it is not copied; "
            "put the file itself there"
        )
    if not stat.S_ISREG(target.stat().st_mode):
        raise UsageError(f"{path}: no regular file, so it is not copied; remove it")
    what = disguise_of(target)
    if "pointer" in what or (what and path.suffix == ".json"):
        raise UsageError(f"{path}: is {what}")
    if path.name in PARSED:
        check_json(path)
    return target
