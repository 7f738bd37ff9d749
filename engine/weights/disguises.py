"""Says what a file is that should be weights or JSON: a pointer, a web page, another format."""

from __future__ import annotations

from pathlib import Path

START_BYTES = 512
SHOWN_BYTES = 40
# Maps the bytes that a file begins with to what it is then, and what to do.
BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file: run `git lfs pull` in its folder",
    b"# xet version": "a pointer of the hub's storage, not the file: download it with `hf download`",
    b"<!doctype html": "a web page: a download that failed or wants a login; download it again",
    b"<html": "a web page: a download that failed or wants a login; download it again",
    b"<?xml": "an XML message: a download that failed or wants a login; download it again",
    b"PK\x03\x04": "a zip, as torch.save writes: pickled weights are never loaded here",
    b"\x80\x02": "a pickle: pickled weights are never loaded here",
    b"\x80\x04": "a pickle: pickled weights are never loaded here",
    b"\x1f\x8b": "compressed with gzip: unpack it",
    b"PAR1": "a Parquet file: write its rows as JSON lines",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it",
    b"GGUF": "a GGUF file, not safetensors: start from the 16 bit checkpoint",
}


def disguise(start: bytes) -> str:
    """Say what a file that begins with `start` is; "" where it may be what its name says."""
    if not start:
        return "empty: a download that was cut off, or a full disk"
    if not any(start):
        return "nothing but zeros: a download that was not finished"
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it"
    head = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginning, what in BEGINNINGS.items():
        if start.startswith(beginning) or head.startswith(beginning.lower()):
            return what
    return ""


def disguise_of(file: Path) -> str:
    """Say what a file is, as `disguise` does. OSError where it cannot be read."""
    with file.open("rb") as stream:
        return disguise(stream.read(START_BYTES))


def as_text(start: bytes) -> str:
    """Say what a text is that lies in place of weights; "" where `start` is no text.

    Weights begin with a number of 8 bytes, whose last ones are 0.
    """
    if not all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start[:8]):
        return ""
    return f"a text that begins with {start[:SHOWN_BYTES].decode(errors='ignore').strip()!r}"
