"""The machine that a run is planned for: this one, or one that is named. Loads no torch.

A card has the bytes that its driver reports, which are not those of its name. For a card that is not
here they are known from elsewhere; a card with an unknown name has the bytes that are given.
"""

from __future__ import annotations

import csv
import math
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from ..errors import UsageError, did_you_mean

MIB, GIB = 1 << 20, 1 << 30
EXAMPLES = "8xH100-80GB, 1xA100-40GB, 8xH200, 2x24GB, or a YAML file"
QUERY = "--query-gpu=name,memory.total,memory.free,uuid,mig.mode.current"
DIVIDED = "Enabled"  # what it says of a card that is divided into parts
SMI = ("nvidia-smi", QUERY, "--format=csv,noheader,nounits")
# Without persistence mode the driver wakes each card first.
SMI_S = 120
FIRST_CARD = Path("/dev/nvidia0")
UNITS = {"TB": 10**12, "TIB": 1 << 40, "GB": 10**9, "GIB": GIB, "MB": 10**6, "MIB": MIB}
MOST_GPUS = 1 << 16
# CUDA_VISIBLE_DEVICES as a list of numbers; it may name cards otherwise.
NUMBERS = re.compile(r"-?\d+(,\d+)*")


@dataclass(frozen=True)
class Gpu:
    """One card. `free_bytes` are less than `size_bytes` where others use it.

    Its rates are published peaks: bytes of its memory a second, operations of bf16 a second.
    """

    name: str
    size_bytes: int
    free_bytes: int
    bytes_per_s: float
    flops: float


@dataclass(frozen=True)
class Machine:
    """One node: its cards, its memory, and what is free on the disk of the run's folder.

    None is not known: then the plan says what is needed, and refuses nothing.
    """

    gpus: tuple[Gpu, ...]
    host_bytes: int | None = None
    disk_bytes: int | None = None


# MiB that nvidia-smi reports, TB/s of memory, TFLOP/s of dense bf16. The first that fits a name counts.
CARDS = {
    r"H200": (143771, 4.8, 989),
    r"H100.*(NVL|94)": (95830, 3.9, 835),
    r"H100.*PCI": (81559, 2.0, 756),
    r"H100|H800": (81559, 3.35, 989),
    r"B200": (183359, 8.0, 2250),
    r"A100.*40": (40960, 1.555, 312),
    r"A100|A800": (81920, 2.039, 312),
    r"L40S": (46068, 0.864, 362),
    r"A6000": (49140, 0.768, 155),
    r"A10G?$": (23028, 0.6, 125),
    r"L4$": (23034, 0.3, 121),
    r"4090": (24564, 1.008, 165),
    r"5090": (32607, 1.792, 210),
    r"T4$": (15360, 0.3, 65),
}
# A card that is known by its bytes alone is taken for a slow one.
UNNAMED_RATES = 0.3, 65


# The keys of a file of --gpus: of the machine, and of an entry of its cards.
MACHINE = "gpus", "host", "disk"
CARD = "name", "count", "memory", "terabytes_per_s", "teraflops"


def parse_machine(text: str) -> Machine:
    """Return the machine of a text such as 8xH100-80GB or 2x24GB, or of a YAML file.

    UsageError where it is neither, or the name is of no card that is known here.
    """
    if text.endswith((".yaml", ".yml")):
        return machine_of_file(Path(text))
    found = re.fullmatch(r"([1-9]\d{0,4})x(\S+)", text.strip())
    if not found:
        raise UsageError(f"--gpus {text}: write COUNTxCARD, for example {EXAMPLES}")
    return Machine((named_gpu(found[2], f"--gpus {text}"),) * int(found[1]))


def named_gpu(name: str, where: str) -> Gpu:
    """Return the card of a name such as H100-80GB, or of bytes alone such as 24GB."""
    if (size_bytes := parse_size(name)) is not None:
        return gpu_of(name, size_bytes)
    for pattern, (size_mib, _, _) in CARDS.items():
        if re.search(pattern, name, re.IGNORECASE):
            return gpu_of(name, size_mib * MIB)
    raise UsageError(f"{where}: {name} is no card known here; give its bytes: {EXAMPLES}")


def gpu_of(name: str, size_bytes: int, free_bytes: int | None = None) -> Gpu:
    """Return a card of these bytes, with the rates of its name."""
    rates = next((r for p, (_, *r) in CARDS.items() if re.search(p, name, re.I)), UNNAMED_RATES)
    free = size_bytes if free_bytes is None else free_bytes
    return Gpu(name, size_bytes, free, rates[0] * 1e12, rates[1] * 1e12)


def parse_size(text: str) -> int | None:
    """Return the bytes of a size such as 24GB or 40GiB; None of any other text."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)([TGM]I?B)", text, re.IGNORECASE)
    return int(float(found[1]) * UNITS[found[2].upper()]) if found else None


def machine_of_file(file: Path) -> Machine:
    """Return the machine of a YAML file: a list of cards, or {gpus: that list, host: 1TB, disk: 2TB}."""
    import yaml

    from .small_file import read_text
    from .strict_yaml import in_yaml, load_yaml

    try:
        rows = load_yaml(read_text(file), file)
    except (UsageError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"--gpus {file}: cannot be read: {in_yaml(error)}") from None
    is_machine = isinstance(rows, dict) and ("gpus" in rows or not is_card(rows))
    found = rows if isinstance(rows, dict) and is_machine else {"gpus": rows}
    check_keys(f"--gpus {file}", found, MACHINE)
    if "gpus" not in found:
        raise UsageError(
            f"--gpus {file}: names no card; add the key gpus, a list of {{name, count, memory: 80GB}}"
        )
    rows = found["gpus"] if isinstance(found["gpus"], list) else [found["gpus"]]
    gpus = tuple(gpu for row in rows for gpu in gpus_of_row(row, file))
    if not gpus:
        raise UsageError(f"--gpus {file}: names no card")
    sizes = {key: parse_size(str(value)) for key, value in found.items() if key != "gpus"}
    if None in sizes.values():
        raise UsageError(f"--gpus {file}: host and disk are sizes such as 512GB; nothing else")
    return Machine(gpus, sizes.get("host"), sizes.get("disk"))


def is_card(row: Mapping[str, object]) -> bool:
    """Tell whether a mapping is an entry of cards, by its keys; they may be misspelt."""
    return any(did_you_mean(word, CARD) for word in map(str, row))


def check_keys(where: str, row: Mapping[str, object], known: Sequence[str]) -> None:
    """UsageError for an unknown key, with the nearest known one."""
    for word in map(str, row):
        if word not in known:
            there = f"there are {', '.join(known)}{did_you_mean(word, known)}"
            raise UsageError(f"{where}: unknown key {word!r}; {there}")


def gpus_of_row(row: object, file: Path) -> Sequence[Gpu]:
    """Return the cards of one entry: {name, count, memory, terabytes_per_s, teraflops}."""
    where = f"--gpus {file}"
    if isinstance(row, Mapping):
        check_keys(where, row, CARD)
    if not isinstance(row, Mapping) or not {"memory", "name"} & row.keys():
        raise UsageError(f"{where}: write a list of {{name, count, memory: 80GB}}; not {row}")
    gpu = named_gpu(str(row.get("memory") or row["name"]), where)
    count, rates = row.get("count", 1), (row.get("terabytes_per_s"), row.get("teraflops"))
    numbers = [number for number in rates if number is not None]
    if not (type(count) is int and 1 <= count <= MOST_GPUS) or not all(
        type(number) in (int, float) and 0 < number < math.inf for number in numbers
    ):
        raise UsageError(f"{where}: count and rates are numbers above 0; not {row}")
    gpu = gpu_of(str(row.get("name") or gpu.name), gpu.size_bytes)
    more = {
        key: number * 1e12
        for key, number in zip(("bytes_per_s", "flops"), rates, strict=True)
        if number is not None
    }
    return [replace(gpu, **more)] * count


# ---- this machine


def gpus_here() -> tuple[Gpu, ...]:
    """Return the cards that this process may use, as the driver reports them; none without a driver.

    UsageError for one that is divided: CUDA would give its first part, and its bytes are those of the whole.
    """
    rows = smi_rows()
    numbers = visible([row[3] for row in rows])
    if divided := [number for number in numbers if rows[number][4] == DIVIDED]:
        raise UsageError(
            f"card {divided[0]} is divided into parts (MIG); this needs whole cards: undo it (nvidia-smi -i "
            f"{divided[0]} -mig 0), or name others in CUDA_VISIBLE_DEVICES, or nothing to work without a card"
        )
    chosen = [rows[number][:3] for number in numbers]
    return tuple(gpu_of(name, int(total) * MIB, int(free) * MIB) for name, total, free in chosen)


def smi_rows() -> list[list[str]]:
    """Return name, MiB, free MiB, UUID and MIG mode of each card of the machine; none without a driver.

    UsageError where there are cards that the driver does not tell of.
    """
    if not shutil.which(SMI[0]):
        return []
    try:
        found = subprocess.run(SMI, capture_output=True, text=True, check=True, timeout=SMI_S)
    except subprocess.SubprocessError as error:
        if not FIRST_CARD.exists():
            return []
        said = str(getattr(error, "stdout", None) or error).strip().splitlines()[-1]
        raise UsageError(
            f"nvidia-smi does not tell of this machine's cards: {said}; mend them, turn on persistence mode "
            "(nvidia-smi -pm 1) where it takes long, or set CUDA_VISIBLE_DEVICES to nothing to work without a card"
        ) from None
    rows = list(csv.reader(found.stdout.splitlines(), skipinitialspace=True))
    # A card that shares the machine's memory has no number there.
    known = all(
        len(row) == 5 and (row[4] == DIVIDED or (row[1].isdigit() and row[2].isdigit()))
        for row in rows
    )
    return rows if known else []


def seeing(cards: Sequence[str]) -> dict[str, str]:
    """Return the variables of a process that shall see these cards only, as `devices_here` names them."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(cards), **by_bus()}


def by_bus() -> dict[str, str]:
    """Return the variables of a process that counts cards by the bus, as the driver and Ray do.

    CUDA puts the fastest card first where it is not told otherwise.
    """
    return {"CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")}


def devices_here() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES is set to for a process that shall see one card, for each card."""
    count = len(gpus_here())
    if os.environ.get("CUDA_VISIBLE_DEVICES", "").strip().startswith("GPU-"):
        # The driver's library takes whole UUIDs alone, CUDA their starts, too.
        uuids = [row[3] for row in smi_rows()]
        return [uuids[number] for number in visible(uuids)]
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    words = [word.strip() for word in named if word.strip()]
    return words[:count] or [str(number) for number in range(count)]


def visible(uuids: Sequence[str]) -> list[int]:
    """Return the numbers of the cards that CUDA_VISIBLE_DEVICES lists, by number or by the start of a UUID.

    All where it names them otherwise. UsageError for parts of cards (MIG), whose bytes the driver's
    list does not tell.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    words = [word.strip() for word in (named or "").split(",") if word.strip()]
    parts = [word for word in words if word.startswith("MIG-")]
    if parts and uuids:
        raise UsageError(
            f"CUDA_VISIBLE_DEVICES names {parts[0]}, a part of a card (MIG); this needs whole cards: name them by "
            "number or UUID, or set it to nothing to work without a card"
        )
    if words and all(word.startswith("GPU-") for word in words):
        starts = [[n for n, uuid in enumerate(uuids) if uuid.startswith(word)] for word in words]
        return [found[0] for found in takewhile(lambda found: len(found) == 1, starts)]
    if named is None or (named.strip() and not NUMBERS.fullmatch(named.strip())):
        return list(range(len(uuids)))
    # CUDA takes no card that stands behind one that is not there.
    return list(takewhile(lambda number: 0 <= number < len(uuids), map(int, words)))


def host_bytes() -> int:
    """Return the memory of this machine, or the limit of its container where that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    texts = (Path(p).read_text().strip() for p in limits if Path(p).is_file())
    return min([machine, *(int(text) for text in texts if text.isdigit())])


def machine_for(gpus: str | None, folder: Path) -> Machine:
    """Return the machine that `gpus` names, or this one; the run's folder tells which disk."""
    if gpus is not None:
        return parse_machine(gpus)
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return Machine(gpus_here(), host_bytes(), shutil.disk_usage(there).free)
