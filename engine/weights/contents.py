"""Tells whether a model's files look as they did, and what is in them.

A file that has its size, times and header looks the same, and is not read. Where one looks different the
contents decide: a digest of all tensors by name, so that it matters neither where the files lie, nor how
they are called or cut into shards. Nothing here loads torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UsageError
from .checkpoint import Checkpoint
from .fingerprint import TensorPrint, new_digest, weights_fingerprint
from .headers import Entry

PIECE_BYTES = 8 << 20
COMPANIONS = (  # files besides the weights that decide what a model answers
    *("config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model"),
    *("vocab.json", "vocab.txt", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
)
CHAT_COMPANIONS = ("chat_template.jinja", "chat_template.json")
Pause = Callable[[int], None]  # is told how many bytes were read; may wait, or raise to end


@dataclass(frozen=True)
class FileFacts:
    """Facts of a file that are cheap to know. A copy or a rewrite changes at least one of its times."""

    name: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    header: str  # digest of the safetensors header

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def facts_of(checkpoint: Checkpoint) -> tuple[FileFacts, ...]:
    """Return the facts of a checkpoint's weight files, in their order."""
    return tuple(file_facts(file, checkpoint) for file in checkpoint.files)


def file_facts(file: Path, checkpoint: Checkpoint) -> FileFacts:
    """Return the facts of one file. Its tensors begin where its header ends."""
    starts = (entry.start for entry in checkpoint.entries.values() if entry.file == file)
    with file.open("rb") as stream:
        found = os.fstat(stream.fileno())
        header = hashlib.sha256(stream.read(min(starts))).hexdigest()[:32]
    return FileFacts(file.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, header)


def companion_digests(folder: Path, names: tuple[str, ...] = COMPANIONS) -> dict[str, str]:
    """Return a digest for each of the small files that are there, by name."""
    return {
        name: text_digest((folder / name).read_bytes())
        for name in names
        if (folder / name).is_file()
    }


def model_parts(place: str) -> dict[str, str]:
    """Return digests of all that decides what a model answers: its small files, and all its tensors."""
    checkpoint = Checkpoint.open(place)
    return companion_digests(checkpoint.folder) | {"weights": contents_fingerprint(checkpoint)}


def text_digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def contents_fingerprint(checkpoint: Checkpoint, pause: Pause = lambda size: None) -> str:
    """Return what `folder_fingerprint` returns, but read in pieces by this thread.

    UsageError where a file was cut off.
    """
    buffer = bytearray(PIECE_BYTES)
    prints = {
        name: TensorPrint(entry.dtype, entry.shape, entry_digest(entry, buffer, pause))
        for name, entry in checkpoint.entries.items()
    }
    return weights_fingerprint(prints)


def entry_digest(entry: Entry, buffer: bytearray, pause: Pause) -> str:
    """Return the digest of one tensor's bytes in its file."""
    digest, done, view = new_digest(), 0, memoryview(buffer)
    with entry.file.open("rb", buffering=0) as file:
        file.seek(entry.start)
        while done < entry.size_bytes:
            count = file.readinto(view[: entry.size_bytes - done])
            if not count:
                raise UsageError(f"{entry.file}: cut off while it was read")
            digest.update(view[:count])
            done += count
            pause(count)
    return digest.hexdigest()
